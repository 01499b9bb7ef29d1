//! The TCP proxy filter.

use std::time::Duration;

use super::super::context::Context;
use super::super::pb::{listener, pack, tcp_proxy, time};
use super::access_log;

/// Name of the network filter.
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// The network filter of an opaque chain. Weights of 0 are left out by the caller.
pub(in super::super) fn proxy(
    ctx: &Context<'_>,
    stat_prefix: &str,
    clusters: &[(String, u32)],
    idle_timeout: Option<Duration>,
) -> listener::Filter {
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
    listener::Filter {
        name: TCP_PROXY.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack(&tcp_proxy::TcpProxy {
            stat_prefix: stat_prefix.to_owned(),
            cluster_specifier: Some(specifier),
            idle_timeout: idle_timeout.and_then(time),
            access_log: access_log::of_mesh(ctx),
            ..Default::default()
        }))),
    }
}

/// To one cluster, under its own name in statistics.
pub(in super::super) fn to(ctx: &Context<'_>, cluster: &str) -> listener::Filter {
    proxy(ctx, cluster, &[(cluster.to_owned(), 1)], None)
}
