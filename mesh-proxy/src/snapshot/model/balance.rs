//! Tables for load balancing, made once for each version of a cluster, and anew when health that is found out here changes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{Cluster, Endpoint, HashEntry, HashRule, HashTable, LbTable, hash_key};

/// Envoy's overprovisioning factor: a group takes all of its load until less than 1/1.4 of it is healthy.
const OVERPROVISIONING: u64 = 140;

/// What of a cluster shapes its tables: `common_lb_config`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LbRules {
    /// `healthy_panic_threshold`, percent; Envoy's default is 50, Istio sets 0.
    pub panic_threshold: f64,
    /// `locality_weighted_lb_config` is there.
    pub locality_weighted: bool,
    /// The tables of consistent hashing, where that is the policy.
    pub hash: Option<HashRule>,
    /// `slow_start_config`.
    pub slow_start: Option<SlowStart>,
}

/// `slow_start_config`: a new endpoint's weight grows over a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// `slow_start_window`.
    pub window: Duration,
    /// `aggression`, default 1: the weight grows with the time's root of this degree.
    pub aggression: f64,
    /// `min_weight_percent`, default 10.
    pub min_weight_percent: f64,
}

impl SlowStart {
    /// Percent of its weight that an endpoint of this age has.
    pub fn percent(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 100.0;
        }
        let time = age.as_secs_f64() / self.window.as_secs_f64();
        (time.powf(1.0 / self.aggression) * 100.0).clamp(self.min_weight_percent, 100.0)
    }
}

impl Default for LbRules {
    fn default() -> Self {
        LbRules {
            panic_threshold: 50.0,
            locality_weighted: false,
            hash: None,
            slow_start: None,
        }
    }
}

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
    /// Those that take traffic.
    pub healthy: LbTable,
    /// `priority`.
    pub priority: u32,
    /// Percent of its load that it can take.
    pub health: u32,
    /// Percent of the requests that start here.
    pub load: u32,
    /// Too few are healthy: all are used rather than the few overwhelmed.
    pub panic: bool,
    /// The healthy by locality, where localities have weights.
    pub localities: Option<Box<Localities>>,
    /// Those in use, for consistent hashing.
    pub hash: Option<Box<HashTable>>,
}

/// Localities of one priority, by their weights.
#[derive(Debug, Default)]
pub struct Localities {
    table: LbTable,
    entries: Vec<LbLocality>,
    turn: AtomicU64,
}

/// The healthy endpoints of one locality.
#[derive(Debug, Default)]
pub struct LbLocality {
    /// They.
    pub healthy: LbTable,
    /// Position of round robin.
    pub turn: AtomicU64,
}

impl Localities {
    /// The locality whose turn it is: turns are spread evenly, so that shares hold over short runs too.
    pub fn next(&self) -> Option<&LbLocality> {
        let turn = self.turn.fetch_add(1, Relaxed);
        self.entries.get(self.table.by_turn(turn))
    }
}

/// Tables that follow the health that is found out here. Only clusters that have outlier detection have this.
#[derive(Debug, Default)]
pub struct LiveIndex(ArcSwapOption<Live>);

#[derive(Debug)]
struct Live {
    /// [`super::ClusterState::health`] at the time.
    health: u64,
    index: LbIndex,
}

impl Cluster {
    /// The tables in force: those of the configuration, unless endpoints changed their health since. Then they are made
    /// anew by whoever comes first.
    pub fn with_index<T>(&self, read: impl FnOnce(&LbIndex) -> T) -> T {
        let Some(live) = &self.live else {
            return read(&self.index);
        };
        let health = self.state.health.load(Acquire);
        if health == 0 {
            return read(&self.index);
        }
        if let Some(live) = &*live.0.load()
            && live.health == health
        {
            return read(&live.index);
        }
        let index = LbIndex::new(&self.endpoints, &self.rules);
        let made = Arc::new(Live { health, index });
        live.0.store(Some(made.clone()));
        read(&made.index)
    }
}

impl LbIndex {
    /// For endpoints whose priorities ascend, by the health that they have now.
    #[allow(clippy::cast_possible_truncation)]
    pub fn new(endpoints: &[Arc<Endpoint>], rules: &LbRules) -> Self {
        let now = Instant::now();
        let weight = |i: u32| endpoints.get(i as usize).map_or(1, |e| rules.weight(e, now));
        let chunks = || endpoints.chunk_by(|a, b| a.priority == b.priority);
        let mut groups = Vec::with_capacity(chunks().count());
        let mut start = 0;
        for chunk in chunks() {
            let all: Vec<u32> = (start..start + chunk.len()).map(|i| i as u32).collect();
            let healthy: Vec<u32> = all
                .iter()
                .copied()
                .filter(|i| endpoints.get(*i as usize).is_some_and(|e| e.takes_traffic()))
                .collect();
            groups.push(LbGroup {
                localities: rules
                    .locality_weighted
                    .then(|| localities(endpoints, &all, weight))
                    .flatten(),
                all: LbTable::new(all, weight),
                healthy: LbTable::new(healthy, weight),
                priority: chunk.first().map_or(0, |e| e.priority),
                health: 0,
                load: 0,
                panic: false,
                hash: None,
            });
            start += chunk.len();
        }
        share_load(&mut groups, rules.panic_threshold);
        if let Some(rule) = rules.hash {
            for group in &mut groups {
                group.hash = HashTable::new(rule, group.shares(endpoints)).map(Box::new);
            }
        }
        LbIndex { groups }
    }
}

impl LbRules {
    /// Weight of an endpoint now.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn weight(&self, endpoint: &Endpoint, now: Instant) -> u32 {
        let full = endpoint.weight.max(1);
        let Some(slow_start) = &self.slow_start else {
            return full;
        };
        let since = endpoint.state.monitor.get().and_then(|m| m.since.get());
        let age = since.map_or(Duration::MAX, |since| now.saturating_duration_since(*since));
        let percent = slow_start.percent(age) as u32;
        full.saturating_mul(percent.max(1))
    }
}

impl LbGroup {
    /// Positions of the endpoints in use.
    pub fn in_use(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        let (whole, parts) = match &self.localities {
            _ if self.panic => (Some(&self.all), None),
            None => (Some(&self.healthy), None),
            Some(localities) => (None, Some(&localities.entries)),
        };
        let parts = parts.into_iter().flatten().map(|locality| &locality.healthy);
        whole.into_iter().chain(parts).flat_map(LbTable::positions)
    }

    /// The endpoints in use with their shares of all the weight.
    fn shares(&self, endpoints: &[Arc<Endpoint>]) -> Vec<HashEntry> {
        let mut entries = Vec::new();
        let mut add = |table: &LbTable, of: f64| {
            entries.extend(table.shares().filter_map(|(position, share)| {
                Some(HashEntry {
                    position,
                    key: hash_key(endpoints.get(position as usize)?.address),
                    share: share * of,
                })
            }));
        };
        match &self.localities {
            _ if self.panic => add(&self.all, 1.0),
            None => add(&self.healthy, 1.0),
            Some(localities) => {
                for ((_, share), locality) in localities.table.shares().zip(&localities.entries) {
                    add(&locality.healthy, share);
                }
            }
        }
        entries
    }
}

/// Share of its load that a group of endpoints takes, percent.
fn availability(healthy: usize, all: usize) -> u64 {
    (OVERPROVISIONING * healthy as u64 / (all.max(1) as u64)).min(100)
}

/// `None` when no locality takes traffic.
fn localities(endpoints: &[Arc<Endpoint>], all: &[u32], weight: impl Fn(u32) -> u32) -> Option<Box<Localities>> {
    let mut found: Vec<(&str, u64, Vec<u32>)> = Vec::new();
    for i in all {
        let Some(endpoint) = endpoints.get(*i as usize) else {
            continue;
        };
        match found.iter_mut().find(|(name, ..)| *name == &*endpoint.locality) {
            Some((_, _, members)) => members.push(*i),
            None => found.push((&*endpoint.locality, endpoint.locality_weight.into(), vec![*i])),
        }
    }
    let mut weights = Vec::new();
    let mut entries = Vec::new();
    for (_, locality_weight, members) in found {
        let size = members.len();
        let healthy: Vec<u32> = members
            .into_iter()
            .filter(|i| endpoints.get(*i as usize).is_some_and(|e| e.takes_traffic()))
            .collect();
        let effective = locality_weight * availability(healthy.len(), size);
        if effective > 0 {
            weights.push(effective);
            entries.push(LbLocality {
                healthy: LbTable::new(healthy, &weight),
                turn: AtomicU64::new(0),
            });
        }
    }
    // Sums have to fit.
    let scale = weights.iter().sum::<u64>() / u64::from(u32::MAX) + 1;
    let count = u32::try_from(entries.len()).ok().filter(|n| *n > 0)?;
    let scaled = |i: u32| {
        let weight = weights.get(i as usize).copied().unwrap_or_default() / scale;
        u32::try_from(weight).unwrap_or(u32::MAX)
    };
    Some(Box::new(Localities {
        table: LbTable::new((0..count).collect(), scaled),
        entries,
        turn: AtomicU64::new(0),
    }))
}

/// Envoy's rule: a priority takes what its health allows, the next one what is left; when all together are short of 100 %,
/// shares are scaled up, and priorities with less healthy endpoints than the threshold use all that they have.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn share_load(groups: &mut [LbGroup], panic_threshold: f64) {
    for group in &mut *groups {
        group.health = availability(group.healthy.len(), group.all.len()) as u32;
    }
    let total: u32 = groups.iter().map(|g| g.health).sum::<u32>().min(100);
    if total < 100 {
        for group in &mut *groups {
            let healthy = group.healthy.len() as f64 * 100.0 / group.all.len().max(1) as f64;
            group.panic = healthy < panic_threshold;
        }
    }
    let mut left = 100;
    if !groups.is_empty() && groups.iter().all(|g| g.panic) {
        let hosts: u64 = groups.iter().map(|g| g.all.len() as u64).sum();
        for group in &mut *groups {
            group.load = (100 * group.all.len() as u64 / hosts.max(1)) as u32;
            left -= group.load;
        }
    } else {
        for group in &mut *groups {
            // Without any health, nobody takes a share.
            let Some(share) = (group.health * 100).checked_div(total) else {
                return;
            };
            group.load = share.min(left);
            left -= group.load;
        }
    }
    // Rounding's rest goes to the first that takes any.
    if let Some(first) = groups.iter_mut().find(|g| g.load > 0) {
        first.load += left;
    }
}
