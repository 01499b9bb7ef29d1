//! Load balancing. Connections and pools are tested with HTTP on top, in [`crate::http`].

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::shared::{Node, Shared};
use crate::snapshot::{Cluster, Discovery, Endpoint, EndpointState, LbIndex, LbPolicy, Transport};
use crate::testing;
use crate::worker::Worker;

fn address(i: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], i))
}

fn worker() -> Rc<Worker> {
    Worker::new(0, Shared::new(Node::default()))
}

/// Endpoints of (weight, priority, healthy), at ports 0, 1, 2…
fn cluster(lb: LbPolicy, endpoints: &[(u32, u32, bool)]) -> Cluster {
    let mut cluster = testing::cluster("c", &[], &Transport::Plain);
    cluster.lb = lb;
    cluster.endpoints = (0..)
        .zip(endpoints)
        .map(|(i, (weight, priority, healthy))| {
            Arc::new(Endpoint {
                address: address(i),
                hostname: None,
                weight: *weight,
                priority: *priority,
                locality: Arc::default(),
                healthy: *healthy,
                transport: Transport::Plain,
                workload: None,
                state: Arc::new(EndpointState::default()),
            })
        })
        .collect();
    cluster.index = LbIndex::new(&cluster.endpoints);
    cluster
}

/// How often each endpoint is chosen.
fn shares(cluster: &Cluster, picks: usize) -> Vec<usize> {
    let worker = worker();
    let mut counts = vec![0; cluster.endpoints.len()];
    for _ in 0..picks {
        if let Some(chosen) = pick(cluster, &worker, PickContext::default()) {
            counts[usize::from(chosen.address.port())] += 1;
        }
    }
    counts
}

#[test]
fn round_robin_takes_turns() {
    let cluster = cluster(LbPolicy::RoundRobin, &[(1, 0, true); 3]);
    assert_eq!(shares(&cluster, 300), [100, 100, 100]);
}

#[test]
fn weights_are_shares_under_every_policy() {
    for lb in [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::LeastRequest(1)] {
        let cluster = cluster(lb, &[(1, 0, true), (3, 0, true)]);
        let counts = shares(&cluster, 4000);
        assert!((750..1250).contains(&counts[0]), "{lb:?}: {counts:?}");
    }
    // Turns are even over short runs too.
    let cluster = cluster(LbPolicy::RoundRobin, &[(1, 0, true), (3, 0, true)]);
    let counts = shares(&cluster, 8);
    assert!((1..=3).contains(&counts[0]), "{counts:?}");
}

#[test]
fn least_request_avoids_the_busy() {
    let cluster = cluster(LbPolicy::LeastRequest(2), &[(1, 0, true); 2]);
    cluster.endpoints[0].state.active.store(10, Relaxed);
    let counts = shares(&cluster, 1000);
    // Both draws fall on the busy one a quarter of the time.
    assert!((150..350).contains(&counts[0]), "{counts:?}");
}

#[test]
fn unhealthy_and_ejected_endpoints_get_nothing() {
    for lb in [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::LeastRequest(2)] {
        let cluster = cluster(lb, &[(1, 0, false), (1, 0, true), (1, 0, true)]);
        cluster.endpoints[2].state.ejected.store(true, Relaxed);
        assert_eq!(shares(&cluster, 100), [0, 100, 0], "{lb:?}");
        cluster.endpoints[1].state.ejected.store(true, Relaxed);
        assert_eq!(
            shares(&cluster, 100),
            [0, 0, 0],
            "{lb:?}: without panic mode there is none"
        );
    }
}

#[test]
fn panic_mode_uses_all() {
    let mut cluster = cluster(LbPolicy::RoundRobin, &[(1, 0, false), (1, 0, false), (1, 0, true)]);
    assert_eq!(shares(&cluster, 90), [0, 0, 90]);
    cluster.panic_threshold = 50.0;
    assert_eq!(shares(&cluster, 90), [30, 30, 30]);
}

#[test]
fn priorities_spill_over() {
    // All healthy: the first priority takes everything.
    let all = cluster(LbPolicy::RoundRobin, &[(1, 0, true), (1, 0, true), (1, 1, true)]);
    assert_eq!(shares(&all, 100)[2], 0);
    // Half of it healthy: 70 % stay (1.4 times 50).
    let half = cluster(LbPolicy::RoundRobin, &[(1, 0, true), (1, 0, false), (1, 1, true)]);
    let counts = shares(&half, 2000);
    assert!((1250..1550).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
    // None of it: everything goes on.
    let none = cluster(LbPolicy::RoundRobin, &[(1, 0, false), (1, 1, true)]);
    assert_eq!(shares(&none, 100), [0, 100]);
    // Ejected rather than unhealthy: the next priority steps in.
    let ejected = cluster(LbPolicy::RoundRobin, &[(1, 0, true), (1, 1, true)]);
    ejected.endpoints[0].state.ejected.store(true, Relaxed);
    assert_eq!(shares(&ejected, 100), [0, 100]);
}

#[test]
fn tried_endpoints_are_avoided_while_there_are_others() {
    let cluster = cluster(LbPolicy::RoundRobin, &[(1, 0, true); 2]);
    let worker = worker();
    let tried = [address(0)];
    let context = PickContext {
        avoid: &tried,
        avoid_attempts: 3,
        original_dst: None,
    };
    for _ in 0..20 {
        assert_eq!(pick(&cluster, &worker, context).expect("one").address, address(1));
    }
    let tried = [address(0), address(1)];
    let context = PickContext {
        avoid: &tried,
        ..context
    };
    assert!(pick(&cluster, &worker, context).is_some());
}

#[test]
fn original_destinations_are_endpoints_of_their_own() {
    let mut cluster = cluster(LbPolicy::ClusterProvided, &[]);
    cluster.discovery = Discovery::OriginalDst;
    let worker = worker();
    assert!(pick(&cluster, &worker, PickContext::default()).is_none());
    let context = PickContext {
        original_dst: Some(address(7)),
        ..PickContext::default()
    };
    let one = pick(&cluster, &worker, context).expect("one");
    let two = pick(&cluster, &worker, context).expect("one");
    assert_eq!(one.address, address(7));
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(cluster.stats.upstream_cx_none_healthy.get(), 1);
}
