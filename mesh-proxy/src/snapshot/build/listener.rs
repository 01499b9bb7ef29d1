//! Listeners, their inspectors and filter chains.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::envoy::Any;
use mesh_api::envoy::pb::envoy::config::core::v3::TrafficDirection;
use mesh_api::envoy::pb::envoy::config::listener::v3 as listener;
use mesh_api::envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use mesh_api::envoy::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use mesh_api::envoy::pb::envoy::r#type::v3::{HashPolicy, hash_policy::PolicySpecifier};

use super::access_log::access_logs;
use super::common::{address, any, any_type, boolean, cidr, duration, limit, to_port, uint};
use super::context::Context;
use super::dynamic_forward::{SNI_FILTER, sni_filter};
use super::http_manager::http_manager;
use super::invalid::{At, Invalid, Result, each};
use super::tls::server_transport;
use crate::snapshot::{
    ChainMatch, Direction, FilterChain, Inspectors, Listener, NetworkFilter, PortPredicate, SourceType, TcpProxy,
    Terminal,
};

/// Envoy's defaults.
const INSPECTION: Duration = Duration::from_secs(15);
const TCP_IDLE: Duration = Duration::from_secs(3600);
const BUFFER_LIMIT: u32 = 1 << 20;

pub(super) fn listener(value: &listener::Listener, context: &mut Context<'_>) -> Result<Listener> {
    let mut addresses = vec![address(value.address.as_ref()).at("address")?];
    addresses.extend(each(&value.additional_addresses, "additional_addresses", |a| {
        address(a.address.as_ref()).at("address")
    })?);
    let mut inspectors = inspectors(&value.listener_filters)?;
    let use_original_dst = boolean(value.use_original_dst.as_ref(), false);
    inspectors.original_dst |= use_original_dst;
    inspectors.timeout = limit(value.listener_filters_timeout.as_ref(), INSPECTION);
    inspectors.continue_on_timeout = value.continue_on_listener_filters_timeout;

    let mut seen = HashSet::new();
    let mut chains = Vec::with_capacity(value.filter_chains.len());
    for (i, chain) in value.filter_chains.iter().enumerate() {
        let place = format!("filter_chains[{i}]");
        let built = filter_chain(chain, context).at(&place)?;
        if !seen.insert(built.matches.clone()) {
            return Err(
                Invalid::new("another chain has the same match").under(format_args!("{place}.filter_chain_match"))
            );
        }
        chains.push(Arc::new(built));
    }
    let default_chain = match &value.default_filter_chain {
        None => None,
        Some(chain) => Some(Arc::new(filter_chain(chain, context).at("default_filter_chain")?)),
    };
    if chains.is_empty() && default_chain.is_none() {
        return Err(Invalid::new("a filter chain is required").under("filter_chains"));
    }
    Ok(Listener {
        name: listener_name(value, addresses[0]).into(),
        stat_prefix: stat_prefix(value, addresses[0]).into(),
        addresses,
        bind_to_port: bind_to_port(value),
        use_original_dst,
        transparent: boolean(value.transparent.as_ref(), false),
        direction: match TrafficDirection::try_from(value.traffic_direction) {
            Ok(TrafficDirection::Inbound) => Direction::Inbound,
            Ok(TrafficDirection::Outbound) => Direction::Outbound,
            _ => Direction::Unspecified,
        },
        inspectors,
        chains,
        default_chain,
        access_logs: access_logs(&value.access_log)?,
        buffer_limit: uint(value.per_connection_buffer_limit_bytes.as_ref()).unwrap_or(BUFFER_LIMIT) as usize,
    })
}

/// Names are optional in static listeners; the address is then as good.
fn listener_name(value: &listener::Listener, address: SocketAddr) -> String {
    if value.name.is_empty() {
        address.to_string()
    } else {
        value.name.clone()
    }
}

fn stat_prefix(value: &listener::Listener, address: SocketAddr) -> String {
    if value.stat_prefix.is_empty() {
        address.to_string().replace(':', "_")
    } else {
        value.stat_prefix.clone()
    }
}

fn bind_to_port(value: &listener::Listener) -> bool {
    #[allow(deprecated)]
    let old = value.deprecated_v1.as_ref().and_then(|d| d.bind_to_port.as_ref());
    boolean(value.bind_to_port.as_ref().or(old), true)
}

fn inspectors(filters: &[listener::ListenerFilter]) -> Result<Inspectors> {
    let mut out = Inspectors::default();
    for (i, filter) in filters.iter().enumerate() {
        inspector(filter, &mut out).map_err(|e| e.under(format_args!("listener_filters[{i}]")))?;
    }
    Ok(out)
}

fn inspector(filter: &listener::ListenerFilter, out: &mut Inspectors) -> Result<()> {
    use listener::listener_filter::ConfigType;
    let kind = match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => any_type(config),
        Some(ConfigType::ConfigDiscovery(_)) => return Err(Invalid::not_implemented("config_discovery")),
        None => filter.name.clone(),
    };
    let off = match &filter.filter_disabled {
        None => PortPredicate::default(),
        Some(predicate) => PortPredicate {
            off: disabled_ports(predicate).at("filter_disabled")?,
        },
    };
    let always = off.off.is_empty();
    match kind.as_str() {
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" | "envoy.filters.listener.tls_inspector" => {
            out.tls = Some(off);
        }
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
        | "envoy.filters.listener.http_inspector" => {
            out.http = Some(off);
        }
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" | "envoy.filters.listener.original_dst"
            if always =>
        {
            out.original_dst = true;
        }
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
        | "envoy.filters.listener.proxy_protocol"
            if always =>
        {
            out.proxy_protocol = true;
        }
        _ if !always => return Err(Invalid::not_implemented("filter_disabled")),
        _ => return Err(Invalid::new(format!("{kind} is not implemented")).under("typed_config")),
    }
    Ok(())
}

/// Ports where a listener filter is off. Only ports can be asked for, so every predicate is a set of ranges.
fn disabled_ports(predicate: &listener::ListenerFilterChainMatchPredicate) -> Result<Vec<(u16, u16)>> {
    use listener::listener_filter_chain_match_predicate::Rule;
    match &predicate.rule {
        Some(Rule::DestinationPortRange(range)) => {
            // Envoy's range excludes its end.
            let port = |n: i32| u16::try_from(n.clamp(0, 65535)).unwrap_or(u16::MAX);
            if range.end <= range.start {
                return Err(Invalid::new("the range is empty").under("destination_port_range"));
            }
            Ok(vec![(port(range.start), port(range.end - 1))])
        }
        Some(Rule::AnyMatch(true)) => Ok(vec![(0, u16::MAX)]),
        Some(Rule::OrMatch(set)) => {
            let ranges = each(&set.rules, "or_match.rules", disabled_ports)?;
            Ok(ranges.into_iter().flatten().collect())
        }
        Some(Rule::NotMatch(inner)) => Ok(complement(disabled_ports(inner).at("not_match")?)),
        Some(Rule::AndMatch(set)) => {
            // Intersection: the complement of the union of the complements.
            let parts = each(&set.rules, "and_match.rules", disabled_ports)?;
            Ok(complement(parts.into_iter().flat_map(complement).collect()))
        }
        _ => Err(Invalid::new("a rule is required")),
    }
}

fn complement(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut out = Vec::new();
    let mut next: u32 = 0;
    for (from, to) in ranges {
        if u32::from(from) > next {
            out.push((u16::try_from(next).unwrap_or(u16::MAX), from - 1));
        }
        next = next.max(u32::from(to) + 1);
    }
    if let Ok(next) = u16::try_from(next) {
        out.push((next, u16::MAX));
    }
    out
}

fn filter_chain(value: &listener::FilterChain, context: &mut Context<'_>) -> Result<FilterChain> {
    let matches = match &value.filter_chain_match {
        None => ChainMatch::default(),
        Some(m) => chain_match(m).at("filter_chain_match")?,
    };
    let tls = server_transport(value.transport_socket.as_ref(), context).at("transport_socket")?;
    let (filters, terminal) = network_filters(&value.filters, context)?;
    Ok(FilterChain {
        name: value.name.as_str().into(),
        matches,
        tls,
        handshake_timeout: duration(value.transport_socket_connect_timeout.as_ref()).filter(|d| !d.is_zero()),
        filters,
        terminal,
    })
}

fn chain_match(value: &listener::FilterChainMatch) -> Result<ChainMatch> {
    use listener::filter_chain_match::ConnectionSourceType;
    let destination_port = match &value.destination_port {
        None => None,
        Some(port) => Some(to_port(port.value).at("destination_port")?),
    };
    for (i, name) in value.server_names.iter().enumerate() {
        if name.trim_start_matches("*.").contains('*') {
            return Err(Invalid::new(format!("{name:?}: only *. in front is a wildcard"))
                .under(format_args!("server_names[{i}]")));
        }
    }
    Ok(ChainMatch {
        destination_port,
        prefix_ranges: each(&value.prefix_ranges, "prefix_ranges", cidr)?,
        server_names: value.server_names.iter().map(|n| n.to_lowercase()).collect(),
        transport_protocol: value.transport_protocol.clone(),
        application_protocols: value.application_protocols.clone(),
        direct_source_prefix_ranges: each(&value.direct_source_prefix_ranges, "direct_source_prefix_ranges", cidr)?,
        source_prefix_ranges: each(&value.source_prefix_ranges, "source_prefix_ranges", cidr)?,
        source_ports: each(&value.source_ports, "source_ports", |p| to_port(*p))?,
        source_type: match ConnectionSourceType::try_from(value.source_type) {
            Ok(ConnectionSourceType::Any) => SourceType::Any,
            Ok(ConnectionSourceType::SameIpOrLoopback) => SourceType::SameIpOrLoopback,
            Ok(ConnectionSourceType::External) => SourceType::External,
            Err(_) => return Err(Invalid::not_implemented("source_type")),
        },
    })
}

fn network_filters(all: &[listener::Filter], context: &mut Context<'_>) -> Result<(Vec<NetworkFilter>, Terminal)> {
    let Some((last, before)) = all.split_last() else {
        return Ok((Vec::new(), Terminal::Close));
    };
    let filters = each(before, "filters", |filter| {
        let (kind, config) = filter_type(filter)?;
        match kind.as_str() {
            "envoy.tcp.metadataexchange.config.MetadataExchange" | "istio.metadata_exchange" => {
                Ok(NetworkFilter::PeerExchange)
            }
            "stats.PluginConfig" | "istio.stats" => Ok(NetworkFilter::IstioStats),
            SNI_FILTER => {
                let config = config.ok_or_else(|| Invalid::new("a configuration is required").under("typed_config"))?;
                let (cache, port) = any(config).and_then(|c| sni_filter(&c)).at("typed_config")?;
                Ok(NetworkFilter::SniForward(cache, port))
            }
            HTTP_MANAGER | TCP_PROXY => Err(Invalid::new("must be the last filter")),
            other => Err(Invalid::new(format!("{other} is not implemented")).under("typed_config")),
        }
    })?;
    let terminal = terminal(last, context).at(&format!("filters[{}]", before.len()))?;
    Ok((filters, terminal))
}

const HTTP_MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

fn filter_type(filter: &listener::Filter) -> Result<(String, Option<&Any>)> {
    use listener::filter::ConfigType;
    match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => Ok((any_type(config), Some(config))),
        Some(ConfigType::ConfigDiscovery(_)) => Err(Invalid::not_implemented("config_discovery")),
        None => Ok((filter.name.clone(), None)),
    }
}

fn terminal(filter: &listener::Filter, context: &mut Context<'_>) -> Result<Terminal> {
    match filter_type(filter)? {
        (kind, Some(config)) if kind == HTTP_MANAGER => {
            let manager: HttpConnectionManager = any(config).at("typed_config")?;
            let manager = http_manager(&manager, context).at("typed_config")?;
            Ok(Terminal::Http(Arc::new(manager)))
        }
        (kind, Some(config)) if kind == TCP_PROXY => {
            let proxy: tcp::TcpProxy = any(config).at("typed_config")?;
            Ok(Terminal::Tcp(Arc::new(tcp_proxy(&proxy).at("typed_config")?)))
        }
        (kind, Some(_)) => {
            Err(Invalid::new(format!("{kind} is not implemented as the last filter")).under("typed_config"))
        }
        (_, None) => Err(Invalid::new("a configuration is required").under("typed_config")),
    }
}

fn hashes_source(policies: &[HashPolicy]) -> Result<bool> {
    match policies {
        [] => Ok(false),
        [one] if matches!(one.policy_specifier, Some(PolicySpecifier::SourceIp(_))) => Ok(true),
        _ => Err(Invalid::new("only one policy with source_ip is implemented").under("hash_policy")),
    }
}

/// The host, which goes into the head of a request as it is.
fn tunnel(value: &tcp::tcp_proxy::TunnelingConfig) -> Result<Arc<str>> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '%';
    match value.hostname.as_str() {
        "" => Err(Invalid::new("is required").under("hostname")),
        host if host.contains(odd) => {
            Err(Invalid::new("must be host:port; operators are not implemented").under("hostname"))
        }
        host => Ok(host.into()),
    }
}

fn tcp_proxy(value: &tcp::TcpProxy) -> Result<TcpProxy> {
    use tcp::tcp_proxy::ClusterSpecifier;
    let clusters = match &value.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![(name.as_str().into(), 1)],
        Some(ClusterSpecifier::WeightedClusters(all)) => each(&all.clusters, "weighted_clusters.clusters", |c| {
            if c.weight == 0 {
                return Err(Invalid::new("must be at least 1").under("weight"));
            }
            Ok((c.name.as_str().into(), c.weight))
        })?,
        None => return Err(Invalid::new("one of cluster or weighted_clusters is required")),
    };
    Ok(TcpProxy {
        stat_prefix: value.stat_prefix.as_str().into(),
        clusters,
        idle_timeout: limit(value.idle_timeout.as_ref(), TCP_IDLE),
        hash_source_ip: hashes_source(&value.hash_policy)?,
        tunnel: value
            .tunneling_config
            .as_ref()
            .map(tunnel)
            .transpose()
            .at("tunneling_config")?,
        max_connect_attempts: uint(value.max_connect_attempts.as_ref()).unwrap_or(1).max(1),
        access_logs: access_logs(&value.access_log)?,
    })
}
