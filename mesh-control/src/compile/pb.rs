//! Envoy's messages under short names, and the small pieces that many resources share.

pub(super) use mesh_api::envoy::pb::envoy::config::{
    accesslog::v3 as accesslog, cluster::v3 as cluster, core::v3 as core, endpoint::v3 as endpoint,
    listener::v3 as listener, route::v3 as route,
};
pub(super) use mesh_api::envoy::pb::envoy::extensions::filters::{
    common::fault::v3 as fault_common,
    http::{cors::v3 as cors, fault::v3 as fault},
    network::{http_connection_manager::v3 as hcm, tcp_proxy::v3 as tcp_proxy},
};
pub(super) use mesh_api::envoy::pb::envoy::extensions::transport_sockets::{
    raw_buffer::v3 as raw_buffer, tls::v3 as tls,
};
pub(super) use mesh_api::envoy::pb::envoy::r#type::matcher::v3 as matcher;
pub(super) use mesh_api::envoy::pb::envoy::r#type::v3 as types;
pub(super) use mesh_api::envoy::pb::google::protobuf::{BoolValue, UInt32Value, UInt64Value};
pub(super) use mesh_api::envoy::{Any, ProtoDuration, ProtoValue, Struct, duration, pack};

use mesh_api::envoy::TypedStruct;
use mesh_api::envoy::pb::google::protobuf::{ListValue, value::Kind};
use mesh_api::names;
use std::time::Duration;

pub(super) const ZERO: Option<ProtoDuration> = Some(ProtoDuration { seconds: 0, nanos: 0 });

#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn on() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn off() -> Option<BoolValue> {
    Some(BoolValue { value: false })
}

#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn ulong(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn time(d: Duration) -> Option<ProtoDuration> {
    Some(duration(d))
}

pub(super) fn seconds(n: u64) -> Option<ProtoDuration> {
    time(Duration::from_secs(n))
}

pub(super) fn text(value: impl Into<String>) -> ProtoValue {
    ProtoValue {
        kind: Some(Kind::StringValue(value.into())),
    }
}

pub(super) fn boolean(value: bool) -> ProtoValue {
    ProtoValue {
        kind: Some(Kind::BoolValue(value)),
    }
}

pub(super) fn number(value: f64) -> ProtoValue {
    ProtoValue {
        kind: Some(Kind::NumberValue(value)),
    }
}

pub(super) fn list(values: Vec<ProtoValue>) -> ProtoValue {
    ProtoValue {
        kind: Some(Kind::ListValue(ListValue { values })),
    }
}

pub(super) fn fields<const N: usize>(entries: [(&str, ProtoValue); N]) -> Struct {
    Struct {
        fields: entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    }
}

pub(super) fn object(inner: Struct) -> ProtoValue {
    ProtoValue {
        kind: Some(Kind::StructValue(inner)),
    }
}

/// Metadata under Istio's key.
pub(super) fn istio_metadata(inner: Struct) -> core::Metadata {
    let mut metadata = core::Metadata::default();
    metadata.filter_metadata.insert("istio".to_owned(), inner);
    metadata
}

/// Metadata that names the Istio object behind a resource.
#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn origin(config: &str) -> Option<core::Metadata> {
    Some(istio_metadata(fields([("config", text(config))])))
}

/// A TCP address.
#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn address(host: &str, port: u16) -> Option<core::Address> {
    Some(core::Address {
        address: Some(core::address::Address::SocketAddress(socket_address(host, port))),
    })
}

pub(super) fn socket_address(host: &str, port: u16) -> core::SocketAddress {
    core::SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(port))),
        ..Default::default()
    }
}

/// An address or range.
pub(super) fn cidr(net: ipnet::IpNet) -> core::CidrRange {
    core::CidrRange {
        address_prefix: net.addr().to_string(),
        prefix_len: uint(u32::from(net.prefix_len())),
    }
}

/// From the same control plane, over ADS, without a limit of time for the first answer.
#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        initial_fetch_timeout: ZERO,
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..Default::default()
    })
}

/// A secret of the agent beside the proxy.
pub(super) fn agent_secret(name: &str) -> tls::SdsSecretConfig {
    let source = core::ApiConfigSource {
        api_type: core::api_config_source::ApiType::Grpc.into(),
        transport_api_version: core::ApiVersion::V3.into(),
        set_node_on_first_message_only: true,
        grpc_services: vec![core::GrpcService {
            target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(
                core::grpc_service::EnvoyGrpc {
                    cluster_name: names::SDS_GRPC_CLUSTER.to_owned(),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }],
        ..Default::default()
    };
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(core::ConfigSource {
            initial_fetch_timeout: ZERO,
            resource_api_version: core::ApiVersion::V3.into(),
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::ApiConfigSource(source)),
            ..Default::default()
        }),
    }
}

/// A secret from the control plane.
pub(super) fn ads_secret(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: ads(),
    }
}

/// An extension that a plain Envoy does not have, in the envelope for such.
pub(super) fn typed_struct(type_url: &str, value: Struct) -> Any {
    pack(&TypedStruct {
        type_url: type_url.to_owned(),
        value: Some(value),
    })
}

/// A transport socket of TLS.
pub(super) fn tls_socket(typed_config: Any) -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(typed_config)),
    }
}

/// A transport socket without TLS.
pub(super) fn raw_socket() -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack(
            &raw_buffer::RawBuffer {},
        ))),
    }
}

pub(super) fn regex(pattern: &str) -> matcher::RegexMatcher {
    matcher::RegexMatcher {
        regex: pattern.to_owned(),
        ..Default::default()
    }
}

pub(super) fn exact(value: &str) -> matcher::StringMatcher {
    string_match(matcher::string_matcher::MatchPattern::Exact(value.to_owned()))
}

pub(super) fn string_match(pattern: matcher::string_matcher::MatchPattern) -> matcher::StringMatcher {
    matcher::StringMatcher {
        match_pattern: Some(pattern),
        ..Default::default()
    }
}

/// A share in percent, as parts of a million.
pub(super) fn fraction(percent: f64) -> types::FractionalPercent {
    // Checked ranges end at 100, so this fits; Istio truncates in the same way.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let numerator = (percent.clamp(0.0, 100.0) * 10_000.0) as u32;
    types::FractionalPercent {
        numerator,
        denominator: types::fractional_percent::DenominatorType::Million.into(),
    }
}

/// All of them.
pub(super) fn always() -> types::FractionalPercent {
    types::FractionalPercent {
        numerator: 100,
        denominator: types::fractional_percent::DenominatorType::Hundred.into(),
    }
}
