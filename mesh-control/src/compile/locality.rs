//! Near endpoints before far ones: priorities and weights of localities, as one caller sees them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use mesh_api::istio::{LocalityFailover, LocalityLbSetting};
use mesh_api::mesh_config::MeshConfig;

use super::cluster::policy::Policy;
use super::context::Context;
use super::endpoint::weight;
use super::pb::cluster;
use crate::store::endpoint::Endpoint;

/// Regions, zones and subzones: the same in all of them is rank 0, another region 3, one that is not to stand in 4.
const RANKS_OF_PLACES: usize = 5;

/// Endpoints of one locality and priority.
pub(super) struct Group<'e> {
    /// `region/zone/subzone`, or empty.
    pub(super) locality: &'e str,
    /// From 0 without gaps.
    pub(super) priority: u32,
    /// Share among the localities of its priority; the sum of the endpoints' unless the policy distributes.
    pub(super) weight: u32,
    pub(super) endpoints: Vec<&'e Endpoint>,
}

/// What counts for a policy: the DestinationRule's own setting before the mesh's; `None` if it is switched off.
fn setting<'a>(mesh: &'a MeshConfig, policy: &Policy<'a>) -> Option<&'a LocalityLbSetting> {
    let own = policy.load_balancer.and_then(|l| l.locality_lb_setting.as_ref());
    own.or(mesh.locality_lb_setting.as_ref())
        .filter(|s| s.enabled != Some(false))
}

/// Lets weights of localities count, where the policy has a say in them.
pub(super) fn apply(ctx: &Context<'_>, policy: &Policy<'_>, out: &mut cluster::Cluster) {
    let Some(setting) = setting(ctx.store.mesh(), policy) else {
        return;
    };
    let lists = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if !setting.distribute.is_empty() || (policy.outlier.is_some() && lists) {
        use cluster::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
        let common = out.common_lb_config.get_or_insert_default();
        common.locality_config_specifier = Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig {},
        ));
    }
}

/// Endpoints by priority and locality. Without ejection Envoy would never see that a near endpoint fails, so there is
/// one priority only.
pub(super) fn groups<'e>(
    ctx: &Context<'_>,
    policy: &Policy<'_>,
    endpoints: impl IntoIterator<Item = &'e Endpoint>,
) -> Vec<Group<'e>> {
    let setting = setting(ctx.store.mesh(), policy);
    let distributes = setting.is_some_and(|s| !s.distribute.is_empty());
    let ranks = setting.filter(|_| policy.outlier.is_some() && !distributes);
    let mut found: BTreeMap<(usize, &str), Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        let rank = ranks.map_or(0, |s| rank(ctx, s, endpoint));
        found
            .entry((rank, &endpoint.workload.locality))
            .or_default()
            .push(endpoint);
    }
    let mut out: Vec<Group<'e>> = Vec::with_capacity(found.len());
    let mut last = None;
    for ((rank, locality), endpoints) in found {
        let priority = match out.last() {
            None => 0,
            Some(before) => before.priority + u32::from(last != Some(rank)),
        };
        last = Some(rank);
        out.push(Group {
            locality,
            priority,
            weight: endpoints.iter().map(|e| weight(e)).sum(),
            endpoints,
        });
    }
    if distributes {
        distribute(ctx.locality, setting, &mut out);
    }
    out
}

/// How far an endpoint is from the caller; 0 is nearest.
fn rank(ctx: &Context<'_>, setting: &LocalityLbSetting, endpoint: &Endpoint) -> usize {
    let keys = &setting.failover_priority;
    let by_labels = keys.iter().position(|key| {
        let (key, wanted) = match key.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (key.as_str(), label(ctx.locality, ctx.labels, key)),
        };
        wanted.unwrap_or_default()
            != label(&endpoint.workload.locality, &endpoint.workload.labels, key).unwrap_or_default()
    });
    let by_labels = by_labels.map_or(0, |first| keys.len() - first);
    // Who does not know where it is prefers no place; with labels the places are for those who say how.
    let by_place = if ctx.locality.is_empty() || (!keys.is_empty() && setting.failover.is_empty()) {
        0
    } else {
        distance(ctx.locality, &endpoint.workload.locality, &setting.failover)
    };
    by_labels * RANKS_OF_PLACES + by_place
}

fn distance(from: &str, to: &str, failover: &[LocalityFailover]) -> usize {
    let (from, to) = (parts(from), parts(to));
    if from[0] == to[0] {
        return match (from[1] == to[1], from[2] == to[2]) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
    }
    match failover.iter().find(|f| f.from == from[0]) {
        Some(chosen) if chosen.to != to[0] => 4,
        _ => 3,
    }
}

/// A label of a workload. Those that say where it runs go by its locality.
fn label<'a>(locality: &'a str, labels: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    let part = match key {
        "topology.kubernetes.io/region" => 0,
        "topology.kubernetes.io/zone" => 1,
        "topology.istio.io/subzone" => 2,
        _ => return labels.get(key).map(String::as_str),
    };
    Some(parts(locality)[part]).filter(|p| !p.is_empty())
}

/// Gives the localities the shares of the first entry that is for the caller, and takes away those that it does not name.
fn distribute(caller: &str, setting: Option<&LocalityLbSetting>, groups: &mut Vec<Group<'_>>) {
    let entries = setting.map(|s| s.distribute.as_slice()).unwrap_or_default();
    let Some(entry) = entries.iter().find(|e| covers(&e.from, caller)) else {
        return;
    };
    // The most exact pattern around a locality decides.
    let mut patterns: Vec<(&String, &u32)> = entry.to.iter().collect();
    patterns.sort_by_key(|(pattern, _)| Reverse(parts(pattern).iter().filter(|p| !matches!(**p, "" | "*")).count()));
    let pattern_of = |group: &Group<'_>| patterns.iter().position(|(p, _)| covers(p, group.locality));
    let mut sums: BTreeMap<usize, u64> = BTreeMap::new();
    for group in groups.iter() {
        if let Some(pattern) = pattern_of(group) {
            *sums.entry(pattern).or_default() += u64::from(group.weight);
        }
    }
    groups.retain_mut(|group| {
        let Some(pattern) = pattern_of(group) else { return false };
        let share = u64::from(*patterns[pattern].1) * u64::from(group.weight);
        let weight = share.div_ceil(sums.get(&pattern).copied().unwrap_or(1).max(1));
        group.weight = u32::try_from(weight).unwrap_or(u32::MAX);
        group.weight > 0
    });
}

/// Whether a pattern, `region/zone/*`, has a locality inside. What it does not say is free.
fn covers(pattern: &str, locality: &str) -> bool {
    let asked = parts(pattern);
    let is = parts(locality);
    let free = |index: usize| asked[index] == "*" || (index > 0 && asked[index].is_empty());
    (0..3).all(|index| free(index) || asked[index] == is[index])
}

/// Region, zone and subzone; empty where there is none.
fn parts(locality: &str) -> [&str; 3] {
    let mut parts = locality.splitn(3, '/');
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

#[cfg(test)]
#[path = "locality_tests.rs"]
mod tests;
