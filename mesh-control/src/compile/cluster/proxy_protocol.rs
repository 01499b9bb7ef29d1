//! The PROXY header in front of what a connection carries.

use mesh_api::envoy::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use mesh_api::istio::{ProxyProtocol, ProxyProtocolVersion};

use super::super::pb::{cluster, core, pack, raw_socket};
use super::policy::Policy;

/// Puts the header before every transport of a cluster; connections without one of their own are plain ones.
pub(super) fn apply(policy: &Policy<'_>, out: &mut cluster::Cluster) {
    let Some(from) = policy.proxy_protocol else {
        return;
    };
    for one in &mut out.transport_socket_matches {
        one.transport_socket = Some(wrapped(from, one.transport_socket.take()));
    }
    if out.transport_socket_matches.is_empty() || out.transport_socket.is_some() {
        out.transport_socket = Some(wrapped(from, out.transport_socket.take()));
    }
}

fn wrapped(from: &ProxyProtocol, inner: Option<core::TransportSocket>) -> core::TransportSocket {
    use core::proxy_protocol_config::Version;
    let version = match from.version {
        ProxyProtocolVersion::V1 => Version::V1,
        ProxyProtocolVersion::V2 => Version::V2,
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack(
            &ProxyProtocolUpstreamTransport {
                config: Some(core::ProxyProtocolConfig {
                    version: version.into(),
                    ..Default::default()
                }),
                transport_socket: Some(inner.unwrap_or_else(raw_socket)),
                ..Default::default()
            },
        ))),
    }
}
