//! The HTTP connection manager and its filters.

use mesh_api::envoy::pb::envoy::extensions::filters::http::{
    cors::v3::Cors, fault::v3::HttpFault, grpc_stats::v3::FilterConfig as GrpcStats, router::v3::Router,
};
use mesh_api::mesh_config::NormalizationType;
use prost::{Message, Name};

use super::super::context::Context;
use super::super::dynamic_dns;
use super::super::pb::{
    Any, ProtoValue, Struct, ZERO, ads, boolean, core, fields, hcm, list, listener, object, off, on, pack, route, text,
    typed_struct,
};
use super::super::route::filters::{CORS, FAULT};
use super::access_log;

/// Which side of the mesh a connection manager is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Side {
    /// From the application.
    Outbound,
    /// Towards it.
    Inbound,
    /// A gateway.
    Gateway,
}

/// Where the routes are.
pub(in super::super) enum Routes {
    /// By RDS, under this name.
    Rds(String),
    /// Here.
    Inline(route::RouteConfiguration),
}

/// Name of the network filter.
const MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// The network filter of an HTTP chain.
pub(in super::super) fn manager(ctx: &Context<'_>, side: Side, stat_prefix: &str, routes: Routes) -> listener::Filter {
    use hcm::http_connection_manager::{
        ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails,
        UpgradeConfig,
    };
    let mut manager = hcm::HttpConnectionManager {
        // The statistics' tags are cut out of the name at the `;`.
        stat_prefix: format!("{stat_prefix};"),
        http_filters: filters(ctx, side, &routes),
        use_remote_address: if side == Side::Gateway { on() } else { off() },
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        stream_idle_timeout: ZERO,
        http_protocol_options: Some(core::Http1ProtocolOptions {
            accept_http_10: true,
            ..Default::default()
        }),
        access_log: access_log::of_mesh(ctx),
        route_specifier: Some(match routes {
            Routes::Rds(name) => RouteSpecifier::Rds(hcm::Rds {
                config_source: ads(),
                route_config_name: name,
            }),
            Routes::Inline(table) => RouteSpecifier::RouteConfig(table),
        }),
        ..Default::default()
    };
    match ctx.store.mesh().path_normalization.normalization {
        NormalizationType::None => manager.normalize_path = off(),
        NormalizationType::Default | NormalizationType::Base => manager.normalize_path = on(),
        NormalizationType::MergeSlashes => {
            manager.normalize_path = on();
            manager.merge_slashes = true;
        }
        NormalizationType::DecodeAndMergeSlashes => {
            manager.normalize_path = on();
            manager.merge_slashes = true;
            manager.path_with_escaped_slashes_action = PathWithEscapedSlashesAction::UnescapeAndForward.into();
        }
    }
    if side != Side::Outbound {
        "istio-envoy".clone_into(&mut manager.server_name);
        manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails {
            subject: on(),
            dns: true,
            uri: true,
            ..Default::default()
        });
        manager.forward_client_cert_details = match side {
            Side::Gateway => ForwardClientCertDetails::SanitizeSet,
            _ => ForwardClientCertDetails::AppendForward,
        }
        .into();
    }
    listener::Filter {
        name: MANAGER.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack(&manager))),
    }
}

/// HTTP filters in Istio's order. Those that only Istio's and Ferromesh's proxies have are optional, so that a plain Envoy leaves
/// them out.
fn filters(ctx: &Context<'_>, side: Side, routes: &Routes) -> Vec<hcm::HttpFilter> {
    let mut filters = vec![
        istio(
            "istio.metadata_exchange",
            "type.googleapis.com/io.istio.http.peer_metadata.Config",
            peer_metadata(side),
        ),
        envoy(
            "envoy.filters.http.grpc_stats",
            &GrpcStats {
                emit_filter_state: true,
                per_method_stat_specifier: Some(
                    mesh_api::envoy::pb::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier::StatsForAllMethods(
                        mesh_api::envoy::pb::google::protobuf::BoolValue { value: false },
                    ),
                ),
                ..Default::default()
            },
        ),
    ];
    if side != Side::Inbound {
        filters.push(istio(
            "istio.alpn",
            "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
            alpn(),
        ));
    }
    filters.push(envoy(FAULT, &HttpFault::default()));
    filters.push(envoy(CORS, &Cors {}));
    filters.push(istio(
        "istio.stats",
        "type.googleapis.com/stats.PluginConfig",
        match side {
            Side::Outbound => Struct::default(),
            Side::Inbound | Side::Gateway => fields([("disable_host_header_fallback", boolean(true))]),
        },
    ));
    let port = match routes {
        // `80`, or `host:80`.
        Routes::Rds(name) => name.rsplit(':').next().and_then(|port| port.parse().ok()),
        Routes::Inline(_) => None,
    };
    let caches = match side {
        Side::Inbound => Vec::new(),
        Side::Outbound => dynamic_dns::caches(ctx, port.unwrap_or_default()),
        Side::Gateway => dynamic_dns::caches_of_gateway(ctx),
    };
    let forward = |cache| envoy(dynamic_dns::HTTP_FILTER, &dynamic_dns::http_filter(cache));
    filters.extend(caches.into_iter().map(forward));
    filters.push(envoy("envoy.filters.http.router", &Router::default()));
    filters
}

fn envoy<M: Message + Name>(name: &str, config: &M) -> hcm::HttpFilter {
    filter(name, pack(config), false)
}

fn istio(name: &str, type_url: &str, config: Struct) -> hcm::HttpFilter {
    filter(name, typed_struct(type_url, config), true)
}

fn filter(name: &str, config: Any, is_optional: bool) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        is_optional,
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// Who the peer is: asked by headers, else by what the control plane says of addresses; and the same told to it.
fn peer_metadata(side: Side) -> Struct {
    let way = |name: &str| object(fields([(name, object(Struct::default()))]));
    let discovery = || list(vec![way("istio_headers"), way("workload_discovery")]);
    let propagation = || list(vec![way("istio_headers")]);
    match side {
        Side::Inbound => fields([
            ("downstream_discovery", discovery()),
            ("downstream_propagation", propagation()),
        ]),
        Side::Outbound | Side::Gateway => fields([
            ("upstream_discovery", discovery()),
            ("upstream_propagation", propagation()),
        ]),
    }
}

/// ALPN by which a sidecar tells the other side what it is about to speak.
fn alpn() -> Struct {
    let one = |protocol: &str, names: [&str; 3]| -> ProtoValue {
        object(fields([
            ("upstream_protocol", text(protocol)),
            ("alpn_override", list(names.into_iter().map(text).collect())),
        ]))
    };
    fields([(
        "alpn_override",
        list(vec![
            one("HTTP10", ["istio-http/1.0", "istio", "http/1.0"]),
            one("HTTP11", ["istio-http/1.1", "istio", "http/1.1"]),
            one("HTTP2", ["istio-h2", "istio", "h2"]),
        ]),
    )])
}
