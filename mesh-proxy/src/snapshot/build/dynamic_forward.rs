//! Envoy's dynamic forward proxy: its cluster, its two filters, and the cache of addresses that they share by its name.
//!
//! Settings of the cache are those that the cluster says; a filter only has to name it. Envoy has both say the same, and so
//! a control plane does; while one of them is new and the other one old, the cluster's hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::envoy::pb::envoy::config::cluster::v3 as cluster;
use mesh_api::envoy::pb::envoy::config::core::v3::TypedExtensionConfig;
use mesh_api::envoy::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig, cluster_config::ClusterImplementationSpecifier,
};
use mesh_api::envoy::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use mesh_api::envoy::pb::envoy::extensions::filters::{
    http::dynamic_forward_proxy::v3 as http, network::sni_dynamic_forward_proxy::v3 as sni,
};
use mesh_api::envoy::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;

use super::cluster::dns_family;
use super::common::{address, any, any_type, duration, limit, to_port, uint};
use super::invalid::{At, Invalid, Result, each};
use crate::dns::CacheSettings;
use crate::snapshot::UpstreamHttp;

pub(super) const HTTP_FILTER: &str = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig";
pub(super) const SNI_FILTER: &str = "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig";
const CLUSTER: &str = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig";
const CARES: &str = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";

/// Envoy's defaults.
const REFRESH: Duration = Duration::from_secs(60);
const MIN_REFRESH: Duration = Duration::from_secs(5);
const HOST_TTL: Duration = Duration::from_secs(300);
const QUERY: Duration = Duration::from_secs(5);
const MAX_HOSTS: u32 = 1024;
const MAX_PENDING: u32 = 1024;

/// The cache of a cluster that takes its hosts from requests; `None` for other clusters.
pub(super) fn cluster(value: &cluster::Cluster, http: &mut UpstreamHttp) -> Result<Option<(String, CacheSettings)>> {
    use cluster::cluster::ClusterDiscoveryType;
    let Some(ClusterDiscoveryType::ClusterType(custom)) = &value.cluster_discovery_type else {
        return Ok(None);
    };
    let config = custom.typed_config.as_ref().filter(|c| any_type(c) == CLUSTER);
    let Some(config) = config else {
        return Err(Invalid::new(format!("{} is not implemented", custom.name)).under("cluster_type"));
    };
    let config: ClusterConfig = any(config).at("cluster_type.typed_config")?;
    let Some(ClusterImplementationSpecifier::DnsCacheConfig(cache)) = &config.cluster_implementation_specifier else {
        return Err(Invalid::new("dns_cache_config is required").under("cluster_type.typed_config"));
    };
    // What Envoy takes where nothing is said.
    #[allow(deprecated)]
    let older = value.upstream_http_protocol_options.is_some();
    if value.typed_extension_protocol_options.is_empty() && !older {
        (http.auto_sni, http.auto_san_validation) = (true, true);
    }
    if !(config.allow_insecure_cluster_options || http.auto_sni && http.auto_san_validation) {
        return Err(Invalid::new(
            "auto_sni and auto_san_validation must both be on, unless allow_insecure_cluster_options is",
        )
        .under("typed_extension_protocol_options"));
    }
    let found = settings(cache).at("cluster_type.typed_config.dns_cache_config")?;
    Ok(Some((cache.name.clone(), found)))
}

/// The cache that an HTTP filter names.
pub(super) fn http_filter(value: &http::FilterConfig) -> Result<Arc<str>> {
    use http::filter_config::ImplementationSpecifier;
    match &value.implementation_specifier {
        Some(ImplementationSpecifier::DnsCacheConfig(cache)) => named(Some(cache)),
        Some(ImplementationSpecifier::SubClusterConfig(_)) => Err(Invalid::not_implemented("sub_cluster_config")),
        None => named(None),
    }
}

/// The cache that an SNI filter names, and its port.
pub(super) fn sni_filter(value: &sni::FilterConfig) -> Result<(Arc<str>, u16)> {
    let port = match &value.port_specifier {
        Some(sni::filter_config::PortSpecifier::PortValue(port)) => to_port(*port).at("port_value")?,
        None => 443,
    };
    Ok((named(value.dns_cache_config.as_ref())?, port))
}

fn named(cache: Option<&DnsCacheConfig>) -> Result<Arc<str>> {
    let cache = cache.ok_or_else(|| Invalid::new("is required").under("dns_cache_config"))?;
    settings(cache).at("dns_cache_config")?;
    Ok(cache.name.as_str().into())
}

fn settings(value: &DnsCacheConfig) -> Result<CacheSettings> {
    if value.name.is_empty() {
        return Err(Invalid::new("a name is required").under("name"));
    }
    let positive = |set: Option<Duration>, default, field: &str| match set {
        Some(Duration::ZERO) => Err(Invalid::new("must be above 0").under(field)),
        set => Ok(set.unwrap_or(default)),
    };
    let max_hosts = match uint(value.max_hosts.as_ref()) {
        Some(0) => return Err(Invalid::new("must be above 0").under("max_hosts")),
        most => most.unwrap_or(MAX_HOSTS),
    };
    let breaker = value.dns_cache_circuit_breaker.as_ref();
    Ok(CacheSettings {
        family: dns_family(value.dns_lookup_family)?,
        refresh: positive(duration(value.dns_refresh_rate.as_ref()), REFRESH, "dns_refresh_rate")?,
        min_refresh: positive(
            duration(value.dns_min_refresh_rate.as_ref()),
            MIN_REFRESH,
            "dns_min_refresh_rate",
        )?,
        failure: value.dns_failure_refresh_rate.as_ref().and_then(|rate| {
            let base = duration(rate.base_interval.as_ref())?;
            Some((base, duration(rate.max_interval.as_ref()).unwrap_or(base * 10)))
        }),
        host_ttl: positive(duration(value.host_ttl.as_ref()), HOST_TTL, "host_ttl")?,
        max_hosts,
        query_timeout: limit(value.dns_query_timeout.as_ref(), QUERY),
        max_pending: breaker
            .and_then(|b| uint(b.max_pending_requests.as_ref()))
            .unwrap_or(MAX_PENDING),
        servers: servers(value.typed_dns_resolver_config.as_ref()).at("typed_dns_resolver_config.typed_config")?,
    })
}

/// The nameservers that a resolver is told to ask.
pub(super) fn servers(value: Option<&TypedExtensionConfig>) -> Result<Vec<SocketAddr>> {
    match value.and_then(|v| v.typed_config.as_ref()) {
        Some(config) if any_type(config) == CARES => {
            let config: CaresDnsResolverConfig = any(config)?;
            each(&config.resolvers, "resolvers", |server| address(Some(server)))
        }
        _ => Ok(Vec::new()),
    }
}
