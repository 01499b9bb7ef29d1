//! Tables for load balancing, made once for each version of a cluster.

use std::sync::Arc;

use super::Endpoint;

/// Envoy's overprovisioning factor: a group takes all of its load until less than 1/1.4 of it is healthy.
const OVERPROVISIONING: u64 = 140;

/// Endpoints of a cluster by priority. Holds positions in [`super::Cluster::endpoints`].
#[derive(Debug, Default)]
pub struct LbIndex {
    /// Priorities, ascending.
    pub groups: Vec<LbGroup>,
}

/// Endpoints of one priority.
#[derive(Debug, Default)]
pub struct LbGroup {
    /// All of them, for panic mode.
    pub all: LbTable,
    /// Those whose `health_status` allows traffic.
    pub healthy: LbTable,
    /// Percent of the requests that start here.
    pub load: u32,
}

/// Positions with their weights.
#[derive(Debug, Default)]
pub struct LbTable {
    entries: Vec<u32>,
    /// Running sums of weights; empty when all weigh the same.
    sums: Vec<u32>,
}

impl LbTable {
    fn new(entries: Vec<u32>, weight: impl Fn(u32) -> u32) -> Self {
        let first = entries.first().map_or(1, |i| weight(*i));
        let mut sums = Vec::new();
        if entries.iter().any(|i| weight(*i) != first) {
            let mut sum = 0_u32;
            for i in &entries {
                sum = sum.saturating_add(weight(*i).max(1));
                sums.push(sum);
            }
        }
        LbTable { entries, sums }
    }

    /// Number of endpoints.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sum of the weights.
    #[allow(clippy::cast_possible_truncation)]
    pub fn points(&self) -> u32 {
        self.sums.last().copied().unwrap_or(self.entries.len() as u32)
    }

    /// The positions.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.entries.iter().map(|i| *i as usize)
    }

    /// The endpoint that a point below [`Self::points`] falls on.
    pub fn by_point(&self, point: u32) -> usize {
        let slot = if self.sums.is_empty() {
            point as usize
        } else {
            self.sums.partition_point(|sum| *sum <= point)
        };
        self.entries.get(slot).copied().unwrap_or_default() as usize
    }

    /// The endpoint whose turn it is. With weights, turns are spread evenly: multiples of the golden ratio fill an interval
    /// without clusters or gaps, so that after every few turns each endpoint had its share.
    #[allow(clippy::cast_possible_truncation)]
    pub fn by_turn(&self, turn: u64) -> usize {
        if self.sums.is_empty() {
            let len = self.entries.len().max(1) as u64;
            return self.entries.get((turn % len) as usize).copied().unwrap_or_default() as usize;
        }
        let spread = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.by_point(((spread * u64::from(self.points())) >> 32) as u32)
    }
}

impl LbIndex {
    /// For endpoints whose priorities ascend.
    #[allow(clippy::cast_possible_truncation)]
    pub fn new(endpoints: &[Arc<Endpoint>]) -> Self {
        let weight = |i: u32| endpoints.get(i as usize).map_or(1, |e| e.weight.max(1));
        let chunks = || endpoints.chunk_by(|a, b| a.priority == b.priority);
        let mut groups = Vec::with_capacity(chunks().count());
        let mut start = 0;
        for chunk in chunks() {
            let all: Vec<u32> = (start..start + chunk.len()).map(|i| i as u32).collect();
            let healthy = all
                .iter()
                .copied()
                .filter(|i| endpoints.get(*i as usize).is_some_and(|e| e.healthy))
                .collect();
            groups.push(LbGroup {
                all: LbTable::new(all, weight),
                healthy: LbTable::new(healthy, weight),
                load: 0,
            });
            start += chunk.len();
        }
        share_load(&mut groups);
        LbIndex { groups }
    }
}

/// Envoy's rule: a priority takes what its health allows, the next one what is left; when all together are short of 100 %,
/// shares are scaled up.
#[allow(clippy::cast_possible_truncation)]
fn share_load(groups: &mut [LbGroup]) {
    let health: Vec<u64> = groups
        .iter()
        .map(|g| (OVERPROVISIONING * g.healthy.len() as u64 / (g.all.len().max(1) as u64)).min(100))
        .collect();
    let total: u64 = health.iter().sum::<u64>().min(100);
    if total == 0 {
        return;
    }
    let mut left = 100_u64;
    for (group, health) in groups.iter_mut().zip(health) {
        let share = (health * 100 / total).min(left);
        group.load = share as u32;
        left -= share;
    }
    // Rounding's rest goes to the first that takes any.
    if let Some(first) = groups.iter_mut().find(|g| g.load > 0) {
        first.load += left as u32;
    }
}
