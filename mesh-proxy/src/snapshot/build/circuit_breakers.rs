//! `circuit_breakers`: how much of everything a cluster may have at once.

use mesh_api::envoy::pb::envoy::config::cluster::v3 as cluster;
use mesh_api::envoy::pb::envoy::config::core::v3::RoutingPriority;

use super::common::uint;
use super::invalid::{Invalid, Result};
use crate::snapshot::Limits;

/// Envoy's defaults for `retry_budget`.
const BUDGET: (f64, u32) = (20.0, 3);

/// Thresholds of priority DEFAULT: routes with priority HIGH are refused, so only these are ever used.
pub(super) fn limits(value: &cluster::Cluster) -> Result<Limits> {
    let all = value
        .circuit_breakers
        .iter()
        .flat_map(|c| c.thresholds.iter().enumerate());
    let mut default = all.filter(|(_, t)| t.priority == RoutingPriority::Default as i32);
    let (index, t) = match default.next() {
        Some((i, t)) => (i, *t),
        None => (0, cluster::circuit_breakers::Thresholds::default()),
    };
    let at = |index: usize| format!("circuit_breakers.thresholds[{index}]");
    if let Some((second, _)) = default.next() {
        let message = "priority DEFAULT has thresholds already, and Envoy takes the first; put them into one";
        return Err(Invalid::new(message).under(at(second)));
    }
    if t.max_connection_pools.is_some() {
        return Err(Invalid::not_implemented("max_connection_pools").under(at(index)));
    }
    let retry_budget = t.retry_budget.map(|budget| {
        let percent = budget.budget_percent.map_or(BUDGET.0, |p| p.value);
        (percent, uint(budget.min_retry_concurrency.as_ref()).unwrap_or(BUDGET.1))
    });
    if retry_budget.is_some_and(|(percent, _)| !(0.0..=100.0).contains(&percent)) {
        let field = format!("{}.retry_budget.budget_percent", at(index));
        return Err(Invalid::new("must be from 0 to 100").under(field));
    }
    Ok(Limits {
        max_connections: uint(t.max_connections.as_ref()).unwrap_or(1024),
        max_pending_requests: uint(t.max_pending_requests.as_ref()).unwrap_or(1024),
        max_requests: uint(t.max_requests.as_ref()).unwrap_or(1024),
        max_retries: uint(t.max_retries.as_ref()).unwrap_or(3),
        retry_budget,
        track_remaining: t.track_remaining,
    })
}
