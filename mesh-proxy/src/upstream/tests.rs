//! Load balancing. Connections and pools are tested with HTTP on top, in [`crate::http`].

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::shared::{Node, Shared};
use crate::snapshot::{Cluster, Discovery, Endpoint, EndpointState, LbIndex, LbPolicy, LiveIndex, Transport};
use crate::testing;
use crate::worker::Worker;

mod tables;

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
                locality_weight: 0,
                healthy: *healthy,
                transport: Transport::Plain,
                workload: None,
                state: Arc::new(EndpointState::default()),
            })
        })
        .collect();
    rebuild(&mut cluster);
    cluster
}

fn rebuild(cluster: &mut Cluster) {
    cluster.index = LbIndex::new(&cluster.endpoints, &cluster.rules);
    cluster.live = Some(LiveIndex::default());
}

/// As outlier detection does it.
fn eject(cluster: &Cluster, endpoint: usize) {
    cluster.endpoints[endpoint].state.ejected.store(true, Relaxed);
    cluster.state.health.fetch_add(1, Relaxed);
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
    // The other one is in every draw.
    assert_eq!(counts, [0, 1000]);
    // With weights too, however heavy the busy one is.
    let cluster = self::cluster(LbPolicy::LeastRequest(2), &[(1, 0, true), (100, 0, true), (2, 0, true)]);
    cluster.endpoints[1].state.active.store(10, Relaxed);
    let counts = shares(&cluster, 3000);
    assert_eq!(counts[1], 0, "{counts:?}");
    assert!(counts[2] > counts[0], "{counts:?}");
}

#[test]
fn unhealthy_and_ejected_endpoints_get_nothing() {
    for lb in [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::LeastRequest(2)] {
        let cluster = cluster(lb, &[(1, 0, false), (1, 0, true), (1, 0, true)]);
        eject(&cluster, 2);
        assert_eq!(shares(&cluster, 100), [0, 100, 0], "{lb:?}");
        eject(&cluster, 1);
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
    cluster.rules.panic_threshold = 50.0;
    rebuild(&mut cluster);
    assert_eq!(shares(&cluster, 90), [30, 30, 30]);
    // Ejected endpoints count as unhealthy.
    let mut ejected = self::cluster(LbPolicy::RoundRobin, &[(1, 0, true); 3]);
    ejected.rules.panic_threshold = 50.0;
    rebuild(&mut ejected);
    eject(&ejected, 0);
    assert_eq!(shares(&ejected, 90), [0, 45, 45]);
    eject(&ejected, 1);
    assert_eq!(shares(&ejected, 90), [30, 30, 30]);
    // As long as other priorities make up for it there is no panic.
    let mut other = self::cluster(
        LbPolicy::RoundRobin,
        &[(1, 0, false), (1, 0, false), (1, 0, true), (1, 1, true)],
    );
    other.rules.panic_threshold = 50.0;
    rebuild(&mut other);
    let counts = shares(&other, 1000);
    assert_eq!(counts[..2], [0, 0], "{counts:?}");
    assert!((350..570).contains(&counts[2]), "{counts:?}");
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
    eject(&ejected, 0);
    assert_eq!(shares(&ejected, 100), [0, 100]);
    // And takes the share that the first can no longer take.
    let half = cluster(LbPolicy::RoundRobin, &[(1, 0, true), (1, 0, true), (1, 1, true)]);
    eject(&half, 1);
    let counts = shares(&half, 2000);
    assert!((1250..1550).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
}

#[test]
fn tried_endpoints_are_avoided_while_there_are_others() {
    let cluster = cluster(LbPolicy::RoundRobin, &[(1, 0, true); 2]);
    let worker = worker();
    let tried = [address(0)];
    let context = PickContext {
        avoid: &tried,
        avoid_attempts: 3,
        hash: None,
        tried_priorities: &[],
        destination: None,
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
fn least_request_does_not_go_back_to_the_endpoint_that_fails_fastest() {
    let cluster = cluster(
        LbPolicy::LeastRequest(2),
        &[(1, 0, true), (1, 0, true), (1, 0, true), (1, 1, true)],
    );
    for busy in [1, 2] {
        cluster.endpoints[busy].state.active.store(10, Relaxed);
    }
    let (worker, tried) = (worker(), [address(0)]);
    let context = PickContext {
        avoid: &tried,
        avoid_attempts: 5,
        ..PickContext::default()
    };
    let mut counts = [0; 4];
    for _ in 0..1000 {
        counts[usize::from(pick(&cluster, &worker, context).expect("one").address.port())] += 1;
    }
    assert_eq!((counts[0], counts[3]), (0, 0), "{counts:?}");
    assert!(counts[1] > 300 && counts[2] > 300, "{counts:?}");
}

#[test]
fn tried_priorities_are_avoided_while_there_are_others() {
    let endpoints = [(1, 0, true), (1, 1, true), (1, 1, false), (1, 2, true)];
    let cluster = cluster(LbPolicy::RoundRobin, &endpoints);
    let worker = worker();
    let shares = |tried: &[u32]| {
        let mut counts = [0; 4];
        for _ in 0..1000 {
            let context = PickContext {
                tried_priorities: tried,
                ..PickContext::default()
            };
            counts[usize::from(pick(&cluster, &worker, context).expect("one").address.port())] += 1;
        }
        counts
    };
    assert_eq!(shares(&[]), [1000, 0, 0, 0]);
    let [first, second, unhealthy, third] = shares(&[0]);
    assert!(first == 0 && unhealthy == 0, "{first} {unhealthy}");
    assert!(
        (600..800).contains(&second),
        "1.4 times half of it: {second}, and {third}"
    );
    assert_eq!(shares(&[0, 1]), [0, 0, 0, 1000]);
    assert_eq!(shares(&[0, 1, 2]), [1000, 0, 0, 0]);
}

#[test]
fn original_destinations_are_endpoints_of_their_own() {
    let mut cluster = cluster(LbPolicy::ClusterProvided, &[]);
    cluster.discovery = Discovery::OriginalDst;
    let worker = worker();
    assert!(pick(&cluster, &worker, PickContext::default()).is_none());
    let context = PickContext {
        destination: Some(address(7)),
        ..PickContext::default()
    };
    let one = pick(&cluster, &worker, context).expect("one");
    let two = pick(&cluster, &worker, context).expect("one");
    assert_eq!(one.address, address(7));
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(cluster.stats.upstream_cx_none_healthy.get(), 1);
}
