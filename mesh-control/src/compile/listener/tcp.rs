//! The TCP proxy filter, and Istio's filters before it.

use mesh_api::istio::TunnelSettings;

use super::super::cluster::policy::Policy;
use super::super::context::Context;
use super::super::dynamic_dns;
use super::super::pb::{Any, Struct, fields, listener, pack, tcp_proxy, text, time, typed_struct};
use super::super::route::hash;
use super::access_log;

/// Name of the network filter.
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// The network filters of an opaque chain to clusters with this policy. Weights of 0 are left out by the caller.
pub(in super::super) fn proxy(
    ctx: &Context<'_>,
    stat_prefix: &str,
    clusters: &[(String, u32)],
    policy: &Policy<'_>,
) -> Vec<listener::Filter> {
    use tcp_proxy::tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight};
    let specifier = match clusters {
        [(only, _)] => ClusterSpecifier::Cluster(only.clone()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several
                .iter()
                .map(|(name, weight)| ClusterWeight {
                    name: name.clone(),
                    weight: *weight,
                    ..Default::default()
                })
                .collect(),
        }),
    };
    let proxy = tcp_proxy::TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(specifier),
        idle_timeout: policy.tcp_idle_timeout().and_then(time),
        hash_policy: hash::of_connection(policy).into_iter().collect(),
        tunneling_config: policy.tunnel.and_then(tunnel),
        access_log: access_log::of_mesh(ctx),
        ..Default::default()
    };
    let mut filters = if ctx.proxy.istio_network_filters {
        istio()
    } else {
        Vec::new()
    };
    let lookup = clusters.iter().find_map(|(name, _)| dynamic_dns::sni_filter(ctx, name));
    filters.extend(lookup.map(|config| filter(dynamic_dns::SNI_FILTER, pack(&config))));
    filters.push(filter(TCP_PROXY, pack(&proxy)));
    filters
}

/// The bytes inside an HTTP CONNECT, which a proxy on the way takes on to this host. POST is reported.
fn tunnel(from: &TunnelSettings) -> Option<tcp_proxy::tcp_proxy::TunnelingConfig> {
    if from.protocol == "POST" {
        return None;
    }
    let host = match from.target_host.parse::<std::net::Ipv6Addr>() {
        Ok(v6) => format!("[{v6}]"),
        Err(_) => from.target_host.clone(),
    };
    Some(tcp_proxy::tcp_proxy::TunnelingConfig {
        hostname: format!("{host}:{}", from.target_port),
        ..Default::default()
    })
}

/// Who the peer is, and metrics. Network filters cannot be optional, so a plain Envoy must not be sent them.
fn istio() -> Vec<listener::Filter> {
    let exchange = typed_struct(
        "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange",
        fields([("protocol", text("istio-peer-exchange"))]),
    );
    let stats = typed_struct("type.googleapis.com/stats.PluginConfig", Struct::default());
    vec![
        filter("istio.metadata_exchange", exchange),
        filter("istio.stats", stats),
    ]
}

fn filter(name: &str, config: Any) -> listener::Filter {
    listener::Filter {
        name: name.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(config)),
    }
}

/// To one cluster, under its own name in statistics.
pub(in super::super) fn to(ctx: &Context<'_>, cluster: &str) -> Vec<listener::Filter> {
    proxy(ctx, cluster, &[(cluster.to_owned(), 1)], &Policy::default())
}
