//! How the endpoint is chosen: the algorithm and its settings.

use std::time::Duration;

use mesh_api::istio::{LoadBalancerSettings, SimpleLb, Warmup};

use super::super::pb::{cluster, core, time, types, ulong};
use super::policy::Policy;
use cluster::cluster::{
    LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
};

const RING_SIZE: u64 = 1024;
/// A prime, as it must be.
const TABLE_SIZE: u64 = 65537;
/// Percent of its weight that an endpoint has at first.
const FIRST_PERCENT: f64 = 10.0;

/// The algorithm of a cluster that chooses among endpoints.
pub(super) fn apply(policy: &Policy<'_>, out: &mut cluster::Cluster) {
    let (algorithm, config) = choice(policy);
    out.lb_policy = algorithm.into();
    out.lb_config = config;
}

fn choice(policy: &Policy<'_>) -> (LbPolicy, Option<LbConfig>) {
    if let Some(hash) = policy.consistent_hash() {
        let or = |size: u64, default: u64| ulong(if size == 0 { default } else { size });
        if let Some(maglev) = &hash.maglev {
            let config = MaglevLbConfig {
                table_size: or(maglev.table_size, TABLE_SIZE),
            };
            return (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(config)));
        }
        let size = match &hash.ring_hash {
            Some(ring) => ring.minimum_ring_size,
            None => hash.minimum_ring_size.unwrap_or_default(),
        };
        let config = RingHashLbConfig {
            minimum_ring_size: or(size, RING_SIZE),
            ..Default::default()
        };
        return (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config)));
    }
    let slow_start_config = policy.load_balancer.and_then(slow_start);
    match policy.simple() {
        Some(SimpleLb::Random) => (LbPolicy::Random, None),
        Some(SimpleLb::Passthrough) => (LbPolicy::ClusterProvided, None),
        Some(SimpleLb::RoundRobin) => {
            let config = slow_start_config.map(|config| RoundRobinLbConfig {
                slow_start_config: Some(config),
            });
            (LbPolicy::RoundRobin, config.map(LbConfig::RoundRobinLbConfig))
        }
        Some(SimpleLb::LeastConn | SimpleLb::LeastRequest | SimpleLb::Unspecified) | None => {
            let config = slow_start_config.map(|config| LeastRequestLbConfig {
                slow_start_config: Some(config),
                ..Default::default()
            });
            (LbPolicy::LeastRequest, config.map(LbConfig::LeastRequestLbConfig))
        }
    }
}

/// The ramp of new endpoints. The old field has nothing but the window.
fn slow_start(from: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    let old = || {
        from.warmup_duration_secs.map(|duration| Warmup {
            duration: Some(duration),
            ..Default::default()
        })
    };
    let warmup = from.warmup.clone().or_else(old)?;
    let window: Duration = warmup.duration?.into();
    Some(SlowStartConfig {
        slow_start_window: time(window),
        aggression: Some(core::RuntimeDouble {
            default_value: warmup.aggression.unwrap_or(1.0),
            // Envoy demands a name. Nobody sets such a key.
            runtime_key: "upstream.slow_start.aggression".to_owned(),
        }),
        min_weight_percent: Some(types::Percent {
            value: warmup.minimum_percent.unwrap_or(FIRST_PERCENT),
        }),
    })
}
