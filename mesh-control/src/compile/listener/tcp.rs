//! The TCP proxy filter, and Istio's filters before it.

use std::time::Duration;

use super::super::context::Context;
use super::super::pb::{Any, Struct, fields, listener, pack, tcp_proxy, text, time, typed_struct};
use super::access_log;

/// Name of the network filter.
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// The network filters of an opaque chain. Weights of 0 are left out by the caller.
pub(in super::super) fn proxy(
    ctx: &Context<'_>,
    stat_prefix: &str,
    clusters: &[(String, u32)],
    idle_timeout: Option<Duration>,
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
        idle_timeout: idle_timeout.and_then(time),
        access_log: access_log::of_mesh(ctx),
        ..Default::default()
    };
    let mut filters = if ctx.proxy.istio_network_filters {
        istio()
    } else {
        Vec::new()
    };
    filters.push(filter(TCP_PROXY, pack(&proxy)));
    filters
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
    proxy(ctx, cluster, &[(cluster.to_owned(), 1)], None)
}
