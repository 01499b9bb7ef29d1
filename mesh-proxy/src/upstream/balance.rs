//! Choice of an endpoint.
//!
//! A pick costs a few atomic loads, whatever the number of endpoints: positions are drawn from the tables of
//! [`LbIndex`], which the builder of snapshots makes once, and a draw that falls on an ejected endpoint is repeated.
//! Only when draws keep failing is the list walked.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::snapshot::{Cluster, Discovery, Endpoint, LbGroup, LbPolicy};
use crate::worker::Worker;

/// What a pick may depend on, beside the cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickContext<'a> {
    /// Endpoints that were tried already; another is taken if one comes up within `avoid_attempts` draws.
    pub avoid: &'a [SocketAddr],
    /// `host_selection_retry_max_attempts`.
    pub avoid_attempts: u32,
    /// Where the connection was going, for [`Discovery::OriginalDst`].
    pub original_dst: Option<SocketAddr>,
}

/// Draws before the list is walked.
const DRAWS: usize = 8;

/// Chooses an endpoint; `None` when there is none that takes traffic.
pub fn pick(cluster: &Cluster, worker: &Rc<Worker>, ctx: PickContext<'_>) -> Option<Arc<Endpoint>> {
    let chosen = if cluster.discovery == Discovery::OriginalDst {
        ctx.original_dst
            .map(|address| worker.pools.original_dst_endpoint(cluster, address))
    } else {
        pick_listed(cluster, ctx)
    };
    if chosen.is_none() {
        cluster.stats.upstream_cx_none_healthy.inc();
    }
    chosen
}

fn pick_listed(cluster: &Cluster, ctx: PickContext<'_>) -> Option<Arc<Endpoint>> {
    let mut chosen = pick_once(cluster)?;
    if !ctx.avoid.is_empty() {
        for _ in 0..ctx.avoid_attempts {
            if !ctx.avoid.contains(&chosen.address) {
                break;
            }
            chosen = pick_once(cluster)?;
        }
    }
    Some(chosen.clone())
}

fn pick_once(cluster: &Cluster) -> Option<&Arc<Endpoint>> {
    let groups = &cluster.index.groups;
    let first = match groups.len() {
        0 => return None,
        1 => 0,
        _ => group_by_load(groups),
    };
    pick_in(cluster, &groups[first]).or_else(|| {
        // Everything there is ejected, or the group is empty: by order of priority.
        groups
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != first)
            .find_map(|(_, group)| pick_in(cluster, group))
    })
}

fn group_by_load(groups: &[LbGroup]) -> usize {
    let mut point = random(100);
    for (i, group) in groups.iter().enumerate() {
        if point < group.load {
            return i;
        }
        point -= group.load;
    }
    0
}

fn pick_in<'a>(cluster: &'a Cluster, group: &LbGroup) -> Option<&'a Arc<Endpoint>> {
    let total = group.all.len();
    if total == 0 {
        return None;
    }
    // Panic: with too few healthy endpoints left, all of them are used rather than the few overwhelmed.
    #[allow(clippy::cast_precision_loss)]
    let panic = (group.healthy.len() as f64) * 100.0 < cluster.panic_threshold * (total as f64);
    let table = if panic { &group.all } else { &group.healthy };
    if table.is_empty() {
        return None;
    }
    let usable = |endpoint: &Endpoint| panic || !endpoint.state.ejected.load(Relaxed);
    for _ in 0..DRAWS {
        let endpoint = draw(cluster, table)?;
        if usable(endpoint) {
            return Some(endpoint);
        }
    }
    let endpoints = || table.indices().filter_map(|i| cluster.endpoints.get(i));
    if let Some(endpoint) = endpoints().find(|e| usable(e)) {
        return Some(endpoint);
    }
    // All are ejected.
    if cluster.panic_threshold > 0.0 {
        draw(cluster, &group.all)
    } else {
        None
    }
}

fn draw<'a>(cluster: &'a Cluster, table: &crate::snapshot::LbTable) -> Option<&'a Arc<Endpoint>> {
    let endpoints = &cluster.endpoints;
    match cluster.lb {
        LbPolicy::RoundRobin | LbPolicy::ClusterProvided => {
            let position = cluster.state.next.fetch_add(1, Relaxed);
            endpoints.get(table.by_turn(position))
        }
        LbPolicy::Random => endpoints.get(table.by_point(random(table.points()))),
        LbPolicy::LeastRequest(choices) => {
            let mut best: Option<&Arc<Endpoint>> = None;
            let mut least = u32::MAX;
            for _ in 0..choices.max(1) {
                // Weights are in the draw, so that load alone decides between the drawn.
                let candidate = endpoints.get(table.by_point(random(table.points())))?;
                let load = candidate.state.active.load(Relaxed);
                if load < least && !(best.is_some() && candidate.state.ejected.load(Relaxed)) {
                    least = load;
                    best = Some(candidate);
                }
            }
            best.or_else(|| endpoints.get(table.by_point(0)))
        }
    }
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
