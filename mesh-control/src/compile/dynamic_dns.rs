//! Hosts that are known only when a request names them: Envoy's dynamic forward proxy. A cluster takes its host from the
//! request (HTTP) or from the server name (TLS); a filter before it looks the name up in the cache that both share.

use std::time::Duration;

use mesh_api::envoy::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, CustomClusterType};
use mesh_api::envoy::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig, cluster_config::ClusterImplementationSpecifier,
};
use mesh_api::envoy::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use mesh_api::envoy::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as http;
use mesh_api::envoy::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3 as sni;
use mesh_api::envoy::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use mesh_api::names;

use super::cluster::tls::Transport;
use super::context::Context;
use super::pb::{address, core, pack, time};
use crate::store::service::Resolution;

/// Name of the HTTP filter.
pub(super) const HTTP_FILTER: &str = "envoy.filters.http.dynamic_forward_proxy";
/// Name of the network filter.
pub(super) const SNI_FILTER: &str = "envoy.filters.network.sni_dynamic_forward_proxy";

/// The cache of a ServiceEntry's host.
pub(super) fn cache(ctx: &Context<'_>, host: &str) -> DnsCacheConfig {
    let mesh = ctx.store.mesh();
    // Envoy takes no less.
    let refresh = mesh.dns_refresh_rate.get().max(Duration::from_millis(1));
    DnsCacheConfig {
        name: format!("{host}_dfp_dns_cache"),
        dns_lookup_family: ctx.dns_family().into(),
        dns_refresh_rate: time(refresh),
        ..Default::default()
    }
}

/// The cache of hosts that nobody knows. Names that the DNS proxy beside the sidecar gives out are known to that alone.
pub(super) fn cache_of_mesh(ctx: &Context<'_>) -> DnsCacheConfig {
    let mut cache = cache(ctx, names::ALLOW_ANY_DYNAMIC_DNS_CLUSTER);
    if ctx.dns_capture {
        let loopback = if ctx.proxy.id.ip.is_ipv6() { "::1" } else { "127.0.0.1" };
        cache.typed_dns_resolver_config = Some(core::TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(pack(&CaresDnsResolverConfig {
                resolvers: address(loopback, names::port::DNS).into_iter().collect(),
                ..Default::default()
            })),
        });
    }
    cache
}

/// The caches that requests from the application to a port may need.
pub(super) fn caches(ctx: &Context<'_>, port: u16) -> Vec<DnsCacheConfig> {
    let known = ctx.looked_up(Some(port)).into_iter().map(|s| cache(ctx, &s.host));
    let any = ctx.allows_any_name().then(|| cache_of_mesh(ctx));
    known.chain(any).collect()
}

/// The caches that requests to a gateway may need.
pub(super) fn caches_of_gateway(ctx: &Context<'_>) -> Vec<DnsCacheConfig> {
    ctx.looked_up(None).into_iter().map(|s| cache(ctx, &s.host)).collect()
}

/// The type of a cluster with this cache. Envoy wants TLS to check the name, or to be told that it does not.
pub(super) fn cluster_type(cache: DnsCacheConfig, transport: &Transport) -> ClusterDiscoveryType {
    ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
        typed_config: Some(pack(&ClusterConfig {
            allow_insecure_cluster_options: !(transport.auto_sni && transport.auto_san_validation),
            cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(cache)),
            ..Default::default()
        })),
    })
}

/// The HTTP filter's configuration.
pub(super) fn http_filter(cache: DnsCacheConfig) -> http::FilterConfig {
    http::FilterConfig {
        implementation_specifier: Some(http::filter_config::ImplementationSpecifier::DnsCacheConfig(cache)),
        ..Default::default()
    }
}

/// The network filter's configuration, for a cluster whose host is the server name.
pub(super) fn sni_filter(ctx: &Context<'_>, cluster: &str) -> Option<sni::FilterConfig> {
    let name = names::ClusterName::parse(cluster)?;
    let service = ctx.service(name.host)?;
    (service.resolution == Resolution::DynamicDns).then(|| sni::FilterConfig {
        dns_cache_config: Some(cache(ctx, &service.host)),
        port_specifier: Some(sni::filter_config::PortSpecifier::PortValue(u32::from(name.port))),
        ..Default::default()
    })
}
