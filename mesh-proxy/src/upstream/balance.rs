//! Choice of an endpoint.
//!
//! A pick costs a few atomic loads, whatever the number of endpoints: positions are drawn from the tables of
//! [`LbIndex`], which the builder of snapshots makes once, and which is made anew when an endpoint is ejected or comes back.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::snapshot::{Cluster, Endpoint, LbGroup, LbIndex, LbPolicy, LbTable};
use crate::worker::Worker;

/// What a pick may depend on, beside the cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickContext<'a> {
    /// Endpoints that were tried already; another of the same priority is taken if there is one. (Envoy draws `avoid_attempts`
    /// times and then takes what comes. Draws by load go to the one that fails fastest, as that has least to do.)
    pub avoid: &'a [SocketAddr],
    /// Priorities that are left out as long as there are others that take traffic (`retry_priority`).
    pub tried_priorities: &'a [u32],
    /// `host_selection_retry_max_attempts`.
    pub avoid_attempts: u32,
    /// Hash of the request, for consistent hashing; chance decides without.
    pub hash: Option<u64>,
    /// Where the connection goes if the cluster lists no endpoints: [`Cluster::destination`].
    pub destination: Option<SocketAddr>,
}

/// Chooses an endpoint; `None` when there is none that takes traffic.
pub fn pick(cluster: &Cluster, worker: &Rc<Worker>, ctx: PickContext<'_>) -> Option<Arc<Endpoint>> {
    let chosen = if cluster.discovery.lists_endpoints() {
        pick_listed(cluster, ctx)
    } else {
        ctx.destination
            .map(|address| worker.pools.original_dst_endpoint(cluster, address))
    };
    if chosen.is_none() {
        cluster.stats.upstream_cx_none_healthy.inc();
    }
    chosen
}

fn pick_listed(cluster: &Cluster, ctx: PickContext<'_>) -> Option<Arc<Endpoint>> {
    cluster.with_index(|index| pick_from(cluster, index, ctx).cloned())
}

fn pick_from<'c>(cluster: &'c Cluster, index: &LbIndex, ctx: PickContext<'_>) -> Option<&'c Arc<Endpoint>> {
    if let LbPolicy::Hash(_) = cluster.lb {
        return pick_by_hash(cluster, index, ctx);
    }
    let tried = ctx.tried_priorities;
    let mut chosen = pick_once(cluster, index, tried)?;
    if !ctx.avoid.is_empty() {
        for _ in 0..ctx.avoid_attempts {
            if !ctx.avoid.contains(&chosen.address) {
                break;
            }
            chosen = pick_once(cluster, index, tried)?;
        }
        if ctx.avoid.contains(&chosen.address) {
            return Some(untried(cluster, index, chosen, ctx.avoid));
        }
    }
    Some(chosen)
}

/// An endpoint in use that was not tried, in place of one that was; that one when there is no other.
fn untried<'c>(
    cluster: &'c Cluster,
    index: &LbIndex,
    tried: &'c Arc<Endpoint>,
    avoid: &[SocketAddr],
) -> &'c Arc<Endpoint> {
    let group = index.groups.iter().find(|g| g.priority == tried.priority);
    let others = group.into_iter().flat_map(LbGroup::in_use);
    let mut others = others
        .filter_map(|i| cluster.endpoints.get(i))
        .filter(|e| !avoid.contains(&e.address));
    let count = u32::try_from(others.clone().count()).unwrap_or(u32::MAX);
    others.nth(random(count) as usize).unwrap_or(tried)
}

fn pick_once<'c>(cluster: &'c Cluster, index: &LbIndex, tried: &[u32]) -> Option<&'c Arc<Endpoint>> {
    let groups = &index.groups;
    let first = match groups.len() {
        0 => return None,
        1 => 0,
        _ => group_for(groups, tried, random(100)),
    };
    pick_in(cluster, &groups[first]).or_else(|| {
        // Nothing in it takes traffic: by order of priority.
        groups
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != first)
            .find_map(|(_, group)| pick_in(cluster, group))
    })
}

/// Each request gets the endpoint of its hash; attempts after the first go along the table.
fn pick_by_hash<'c>(cluster: &'c Cluster, index: &LbIndex, ctx: PickContext<'_>) -> Option<&'c Arc<Endpoint>> {
    let by_chance = || (u64::from(random(u32::MAX)) << 32) | u64::from(random(u32::MAX));
    let hash = ctx.hash.unwrap_or_else(by_chance);
    let groups = &index.groups;
    #[allow(clippy::cast_possible_truncation)]
    let first = group_for(groups, ctx.tried_priorities, (hash % 100) as u32);
    let group = groups.get(first).filter(|g| g.hash.is_some());
    let group = group.or_else(|| groups.iter().find(|g| g.hash.is_some()))?;
    let table = group.hash.as_deref()?;
    let mut attempt = 0;
    loop {
        let chosen = cluster.endpoints.get(table.choose(hash, attempt) as usize)?;
        if attempt >= ctx.avoid_attempts || !ctx.avoid.contains(&chosen.address) {
            return Some(chosen);
        }
        attempt += 1;
    }
}

fn group_for(groups: &[LbGroup], tried: &[u32], point: u32) -> usize {
    if tried.is_empty() {
        return group_by_load(groups, point);
    }
    let untried = groups.iter().filter(|g| !tried.contains(&g.priority));
    let total = untried.map(|g| g.health).sum::<u32>().min(100);
    if total == 0 {
        return group_by_load(groups, point);
    }
    // The share of those that were tried goes to the others, by their health.
    let (mut point, mut left) = (point, 100);
    for (i, group) in groups.iter().enumerate() {
        if tried.contains(&group.priority) {
            continue;
        }
        let share = (group.health * 100 / total).min(left);
        if point < share {
            return i;
        }
        point -= share;
        left -= share;
    }
    // Rounding's rest goes to the first that takes any.
    let rest = |g: &LbGroup| g.health > 0 && !tried.contains(&g.priority);
    groups.iter().position(rest).unwrap_or_default()
}

fn group_by_load(groups: &[LbGroup], mut point: u32) -> usize {
    for (i, group) in groups.iter().enumerate() {
        if point < group.load {
            return i;
        }
        point -= group.load;
    }
    0
}

fn pick_in<'c>(cluster: &'c Cluster, group: &LbGroup) -> Option<&'c Arc<Endpoint>> {
    let turn = &cluster.state.next;
    if group.panic {
        return draw(cluster, &group.all, turn);
    }
    match &group.localities {
        None => draw(cluster, &group.healthy, turn),
        Some(localities) => {
            let locality = localities.next()?;
            draw(cluster, &locality.healthy, &locality.turn)
        }
    }
}

fn draw<'c>(cluster: &'c Cluster, table: &LbTable, turn: &AtomicU64) -> Option<&'c Arc<Endpoint>> {
    if table.is_empty() {
        return None;
    }
    let endpoints = &cluster.endpoints;
    let position = match cluster.lb {
        LbPolicy::RoundRobin | LbPolicy::ClusterProvided => table.by_turn(turn.fetch_add(1, Relaxed)),
        LbPolicy::Random | LbPolicy::Hash(_) => table.by_point(random(table.points())),
        LbPolicy::LeastRequest(choices) => {
            let load = |i: usize| endpoints.get(i).map_or(u32::MAX, |e| e.state.active.load(Relaxed));
            table.best_of(choices, random, load)
        }
    };
    endpoints.get(position)
}

/// A number below `bound` (0 when `bound` is 0), from a generator that is fast and not secret.
pub(crate) fn random(bound: u32) -> u32 {
    use std::cell::Cell;
    thread_local!(static STATE: Cell<u64> = Cell::new(rand::random::<u64>() | 1));
    STATE.with(|state| {
        // wyrand's step: a Weyl sequence, mixed by one wide multiplication.
        let next = state.get().wrapping_add(0xa076_1d64_78bd_642f);
        state.set(next);
        let wide = u128::from(next) * u128::from(next ^ 0xe703_7ed1_a0b4_28db);
        #[allow(clippy::cast_possible_truncation)]
        let mixed = ((wide >> 64) ^ wide) as u32;
        #[allow(clippy::cast_possible_truncation)]
        let scaled = ((u64::from(mixed) * u64::from(bound)) >> 32) as u32;
        scaled
    })
}

/// True for `fraction` of a million calls.
pub(crate) fn chance(fraction: u32) -> bool {
    fraction >= 1_000_000 || (fraction > 0 && random(1_000_000) < fraction)
}
