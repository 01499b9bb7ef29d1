//! Clusters, with their endpoints.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mesh_api::envoy::pb::envoy::config::cluster::v3 as cluster;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::google::protobuf::{Struct, value::Kind};
use tokio::time::Instant;

use super::circuit_breakers::limits;
use super::cluster_http::upstream_http;
use super::common::{duration, istio_string, string_field, uint};
use super::context::Context;
use super::dynamic_forward;
use super::endpoint::{EndpointSpec, Host, assignment};
use super::health::health_check;
use super::invalid::{At, Invalid, Result, each};
use super::lb::{lb_policy, rules};
use super::outlier::outlier_detection;
use super::tls::client_transport;
use crate::dns::{CacheSettings, DnsCache};
use crate::snapshot::{
    Cluster, ClusterState, Discovery, DnsFamily, DnsOptions, DnsTarget, Endpoint, EndpointState, IstioClusterMeta,
    IstioService, Keepalive, LbIndex, LiveIndex, Transport, TransportMatch, TransportSockets,
};
use crate::telemetry::stats::ClusterStats;

/// Envoy's defaults.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DNS_REFRESH: Duration = Duration::from_secs(5);

/// What a cluster is made of beside its message.
pub(super) struct Parts<'a> {
    /// Endpoints that EDS gave.
    pub(super) assigned: Option<&'a [EndpointSpec]>,
    /// Addresses of each target of a DNS cluster, in order.
    pub(super) resolved: &'a [Vec<IpAddr>],
    /// The cluster of this name before: its state is carried over.
    pub(super) old: Option<&'a Cluster>,
    /// Statistics for a new cluster.
    pub(super) stats: &'a dyn Fn(&str) -> Arc<ClusterStats>,
    /// Caches of addresses, by their names.
    pub(super) caches: &'a dyn Fn(&str, CacheSettings) -> Arc<DnsCache>,
}

pub(super) fn cluster(value: &cluster::Cluster, parts: &Parts<'_>, context: &mut Context<'_>) -> Result<Cluster> {
    if value.name.is_empty() {
        return Err(Invalid::new("a name is required").under("name"));
    }
    let own = match &value.load_assignment {
        None => Vec::new(),
        Some(a) => assignment(a).at("load_assignment")?,
    };
    let mut http = upstream_http(value)?;
    let discovery = match dynamic_forward::cluster(value, &mut http)? {
        Some((name, settings)) => Discovery::Dynamic((parts.caches)(&name, settings)),
        None => discovery(value, &own, context)?,
    };
    let transports = transports(value, http.auto_san_validation, context)?;
    let specs: Vec<(EndpointSpec, SocketAddr)> = match &discovery {
        Discovery::Static => addresses(&own).at("load_assignment")?,
        Discovery::Eds(_) => addresses(parts.assigned.unwrap_or_default())?,
        Discovery::StrictDns(_) => found(&own, parts.resolved, usize::MAX),
        Discovery::LogicalDns(_) => found(&own, parts.resolved, 1),
        Discovery::OriginalDst | Discovery::Dynamic(_) => Vec::new(),
    };
    let health_check = health_check(&value.health_checks, &value.name)?.map(Arc::new);
    // Such endpoints are not known before they are wanted.
    let health_check = health_check.filter(|_| discovery.lists_endpoints());
    let endpoints = endpoints(specs, &transports, parts.old, health_check.is_some());
    if health_check.is_none() {
        endpoints.iter().for_each(|e| e.state.unwell.store(false, Relaxed));
    }
    let lb = lb_policy(value, &discovery)?;
    let rules = rules(value, lb)?;
    if rules.slow_start.is_some() {
        for endpoint in &endpoints {
            let monitor = endpoint.state.monitor.get_or_init(Box::default);
            monitor.since.get_or_init(Instant::now);
        }
    }
    let outlier = value.outlier_detection.as_ref().map(outlier_detection);
    let outlier = outlier.transpose().at("outlier_detection")?.map(Arc::new);
    // Where nothing is chosen nothing can be left out.
    let outlier = outlier.filter(|_| discovery.lists_endpoints());
    if outlier.is_none() {
        // Nobody would take them back.
        endpoints.iter().for_each(|e| e.state.ejected.store(false, Relaxed));
    }
    let stats = parts.old.map_or_else(
        || {
            let name = if value.alt_stat_name.is_empty() {
                &value.name
            } else {
                &value.alt_stat_name
            };
            (parts.stats)(name)
        },
        |old| old.stats.clone(),
    );
    let limits = limits(value)?;
    let state = parts
        .old
        .map_or_else(|| Arc::new(ClusterState::default()), |old| old.state.clone());
    stats.watch_limits(&state, limits);
    stats.membership_total.set(count(endpoints.len()));
    stats
        .membership_healthy
        .set(count(endpoints.iter().filter(|e| e.takes_traffic()).count()));
    stats.has_outlier_detection.store(outlier.is_some(), Relaxed);
    Ok(Cluster {
        name: value.name.as_str().into(),
        lb,
        discovery,
        connect_timeout: duration(value.connect_timeout.as_ref())
            .filter(|d| !d.is_zero())
            .unwrap_or(CONNECT_TIMEOUT),
        http,
        index: LbIndex::new(&endpoints, &rules),
        live: (outlier.is_some() || health_check.is_some() || rules.slow_start.is_some()).then(LiveIndex::default),
        rules,
        health_check,
        outlier,
        endpoints,
        transports: Arc::new(transports),
        limits,
        bind: bind(value.upstream_bind_config.as_ref()).at("upstream_bind_config")?,
        keepalive: value
            .upstream_connection_options
            .as_ref()
            .and_then(|o| o.tcp_keepalive.as_ref())
            .map(keepalive),
        istio: istio_meta(value.metadata.as_ref()),
        stats,
        state,
    })
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn discovery(value: &cluster::Cluster, own: &[EndpointSpec], context: &mut Context<'_>) -> Result<Discovery> {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let kind = match &value.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(t)) => {
            DiscoveryType::try_from(*t).map_err(|_| Invalid::not_implemented("type"))?
        }
        Some(ClusterDiscoveryType::ClusterType(_)) => return Err(Invalid::not_implemented("cluster_type")),
    };
    if value.eds_cluster_config.is_some() && kind != DiscoveryType::Eds {
        return Err(Invalid::new("only for clusters of type EDS").under("eds_cluster_config"));
    }
    match kind {
        DiscoveryType::Static => Ok(Discovery::Static),
        DiscoveryType::OriginalDst => Ok(Discovery::OriginalDst),
        DiscoveryType::Eds => {
            let config = value
                .eds_cluster_config
                .as_ref()
                .ok_or_else(|| Invalid::new("required for type EDS").under("eds_cluster_config"))?;
            context
                .needs_ads(config.eds_config.as_ref())
                .at("eds_cluster_config.eds_config")?;
            let name = match config.service_name.as_str() {
                "" => &value.name,
                name => name,
            };
            context.deps.endpoints = Some(name.to_owned());
            Ok(Discovery::Eds(name.into()))
        }
        DiscoveryType::StrictDns => Ok(Discovery::StrictDns(dns_options(value, own)?)),
        DiscoveryType::LogicalDns => {
            if own.len() != 1 {
                return Err(Invalid::new("LOGICAL_DNS needs exactly one endpoint").under("load_assignment"));
            }
            Ok(Discovery::LogicalDns(dns_options(value, own)?))
        }
    }
}

/// A `DnsLookupFamily`.
pub(super) fn dns_family(value: i32) -> Result<DnsFamily> {
    use cluster::cluster::DnsLookupFamily;
    match DnsLookupFamily::try_from(value) {
        Ok(DnsLookupFamily::Auto) => Ok(DnsFamily::Auto),
        Ok(DnsLookupFamily::V4Only) => Ok(DnsFamily::V4Only),
        Ok(DnsLookupFamily::V6Only) => Ok(DnsFamily::V6Only),
        Ok(DnsLookupFamily::V4Preferred) => Ok(DnsFamily::V4Preferred),
        Ok(DnsLookupFamily::All) => Ok(DnsFamily::All),
        Err(_) => Err(Invalid::not_implemented("dns_lookup_family")),
    }
}

fn dns_options(value: &cluster::Cluster, own: &[EndpointSpec]) -> Result<DnsOptions> {
    let resolver = value.typed_dns_resolver_config.as_ref();
    if !dynamic_forward::servers(resolver)
        .at("typed_dns_resolver_config.typed_config")?
        .is_empty()
    {
        return Err(Invalid::not_implemented(
            "typed_dns_resolver_config.typed_config.resolvers",
        ));
    }
    #[allow(deprecated)]
    let (refresh, respect_ttl) = (duration(value.dns_refresh_rate.as_ref()), value.respect_dns_ttl);
    Ok(DnsOptions {
        targets: own
            .iter()
            .map(|e| DnsTarget {
                host: match &e.host {
                    Host::Name(name) => name.clone(),
                    Host::Address(ip) => ip.to_string(),
                },
                port: e.port,
                weight: e.weight,
                priority: e.priority,
            })
            .collect(),
        refresh: refresh.unwrap_or(DNS_REFRESH),
        respect_ttl,
        family: dns_family(value.dns_lookup_family)?,
    })
}

/// Endpoints that have to be addresses already.
fn addresses(specs: &[EndpointSpec]) -> Result<Vec<(EndpointSpec, SocketAddr)>> {
    specs
        .iter()
        .map(|spec| match (&spec.host, spec.address()) {
            (_, Some(address)) => Ok((spec.clone(), address)),
            (Host::Name(name), _) => Err(Invalid::new(format!(
                "{name:?} is no IP address; names are looked up in clusters of type STRICT_DNS or LOGICAL_DNS"
            ))),
            (Host::Address(_), None) => Err(Invalid::new("no address")),
        })
        .collect()
}

/// Endpoints of a DNS cluster: of every target the addresses that were found, at most `most` of them.
fn found(specs: &[EndpointSpec], resolved: &[Vec<IpAddr>], most: usize) -> Vec<(EndpointSpec, SocketAddr)> {
    let mut out = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        match &spec.host {
            Host::Address(ip) => out.push((spec.clone(), SocketAddr::new(*ip, spec.port))),
            Host::Name(name) => {
                let mut named = spec.clone();
                named.hostname.get_or_insert_with(|| name.as_str().into());
                let ips = resolved.get(i).map(Vec::as_slice).unwrap_or_default();
                out.extend(
                    ips.iter()
                        .take(most)
                        .map(|ip| (named.clone(), SocketAddr::new(*ip, spec.port))),
                );
            }
        }
    }
    out
}

/// Endpoints of the model. One that is as before keeps its `Arc`, one whose settings changed keeps its state.
fn endpoints(
    specs: Vec<(EndpointSpec, SocketAddr)>,
    transports: &TransportSockets,
    old: Option<&Cluster>,
    checked: bool,
) -> Vec<Arc<Endpoint>> {
    let before: HashMap<SocketAddr, &Arc<Endpoint>> = old
        .map(|c| c.endpoints.iter().map(|e| (e.address, e)).collect())
        .unwrap_or_default();
    specs
        .into_iter()
        .map(|(spec, address)| {
            let transport = transport_for(&spec.transport, transports);
            let state = match before.get(&address) {
                Some(found) if same_endpoint(found, &spec, &transport) => return Arc::clone(found),
                Some(found) => found.state.clone(),
                None => Arc::new(EndpointState {
                    // Until its first check.
                    unwell: checked.into(),
                    ..EndpointState::default()
                }),
            };
            Arc::new(Endpoint {
                address,
                hostname: spec.hostname,
                weight: spec.weight,
                priority: spec.priority,
                locality: spec.locality,
                locality_weight: spec.locality_weight,
                healthy: spec.healthy,
                transport,
                workload: spec.workload,
                state,
            })
        })
        .collect()
}

fn same_endpoint(old: &Endpoint, spec: &EndpointSpec, transport: &Transport) -> bool {
    old.hostname == spec.hostname
        && old.weight == spec.weight
        && old.priority == spec.priority
        && old.locality == spec.locality
        && old.locality_weight == spec.locality_weight
        && old.healthy == spec.healthy
        && old.workload == spec.workload
        && old.transport.proxy_header() == transport.proxy_header()
        && match (old.transport.tls(), transport.tls()) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
}

/// The first match whose criteria the endpoint's metadata holds, else the cluster's own transport.
fn transport_for(metadata: &[(String, String)], transports: &TransportSockets) -> Transport {
    transports
        .matches
        .iter()
        .find(|m| m.criteria.iter().all(|wanted| metadata.contains(wanted)))
        .map_or(&transports.default, |m| &m.transport)
        .clone()
}

fn transports(value: &cluster::Cluster, verify_name: bool, context: &mut Context<'_>) -> Result<TransportSockets> {
    let default = client_transport(value.transport_socket.as_ref(), verify_name, context).at("transport_socket")?;
    let matches = each(&value.transport_socket_matches, "transport_socket_matches", |m| {
        Ok(TransportMatch {
            name: m.name.as_str().into(),
            criteria: criteria(m.r#match.as_ref()).at("match")?,
            transport: client_transport(m.transport_socket.as_ref(), verify_name, context).at("transport_socket")?,
        })
    })?;
    Ok(TransportSockets { matches, default })
}

fn criteria(value: Option<&Struct>) -> Result<Vec<(String, String)>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let mut all = Vec::with_capacity(value.fields.len());
    for (key, value) in &value.fields {
        match &value.kind {
            Some(Kind::StringValue(text)) => all.push((key.clone(), text.clone())),
            _ => return Err(Invalid::new("only strings are implemented").under(key)),
        }
    }
    all.sort();
    Ok(all)
}

fn bind(value: Option<&core::BindConfig>) -> Result<Option<IpAddr>> {
    let Some(source) = value.and_then(|b| b.source_address.as_ref()) else {
        return Ok(None);
    };
    let ip: IpAddr = source
        .address
        .parse()
        .map_err(|_| Invalid::new(format!("{:?} is no IP address", source.address)).under("source_address.address"))?;
    Ok(Some(ip).filter(|ip| !ip.is_unspecified()))
}

fn keepalive(value: &core::TcpKeepalive) -> Keepalive {
    let seconds = |v: Option<u32>| v.map(|s| Duration::from_secs(u64::from(s)));
    Keepalive {
        probes: uint(value.keepalive_probes.as_ref()),
        time: seconds(uint(value.keepalive_time.as_ref())),
        interval: seconds(uint(value.keepalive_interval.as_ref())),
    }
}

fn istio_meta(metadata: Option<&core::Metadata>) -> IstioClusterMeta {
    let istio = metadata.and_then(|m| m.filter_metadata.get("istio"));
    let service = istio
        .and_then(|s| match s.fields.get("services")?.kind.as_ref()? {
            Kind::ListValue(list) => list.values.first(),
            _ => None,
        })
        .and_then(|first| match first.kind.as_ref()? {
            Kind::StructValue(fields) => Some(IstioService {
                host: string_field(fields, "host")?.into(),
                name: string_field(fields, "name")?.into(),
                namespace: string_field(fields, "namespace").unwrap_or_default().into(),
            }),
            _ => None,
        });
    let external = istio
        .and_then(|s| s.fields.get("external"))
        .is_some_and(|v| match &v.kind {
            Some(Kind::BoolValue(on)) => *on,
            Some(Kind::StringValue(text)) => text == "true",
            _ => false,
        });
    IstioClusterMeta {
        service,
        origin: istio_string(metadata, "config"),
        subset: istio_string(metadata, "subset"),
        external,
        no_alpn_override: istio_string(metadata, "alpn_override").as_deref() == Some("false"),
    }
}
