//! `cluster.<name>.health_check.*`.

use super::{Counter, Family, Gauge, Registry};

/// What active health checks count, under Envoy's names.
#[derive(Debug, Default)]
pub struct HealthCheckCells {
    /// `attempt`: checks.
    pub attempt: Counter,
    /// `success`: good ones.
    pub success: Counter,
    /// `failure`: bad ones, the next included.
    pub failure: Counter,
    /// `network_failure`: those without an answer.
    pub network_failure: Counter,
    /// `healthy`: endpoints that are well by their checks.
    pub healthy: Gauge,
}

impl HealthCheckCells {
    pub(super) fn new(registry: &Registry, cluster: &str) -> Self {
        let scope = registry.scope(Family::Cluster, cluster);
        HealthCheckCells {
            attempt: scope.counter("health_check.attempt"),
            success: scope.counter("health_check.success"),
            failure: scope.counter("health_check.failure"),
            network_failure: scope.counter("health_check.network_failure"),
            healthy: scope.gauge("health_check.healthy"),
        }
    }
}
