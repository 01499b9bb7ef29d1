//! Tables with weights of localities, by hash, and while endpoints start slowly.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::snapshot::{HashRule, SlowStart, hash64};

/// Endpoints of (locality, its weight), all of one priority.
fn localities(endpoints: &[(&str, u32)]) -> Cluster {
    let mut cluster = testing::cluster("c", &[], &Transport::Plain);
    cluster.rules.locality_weighted = true;
    cluster.endpoints = (0..)
        .zip(endpoints)
        .map(|(i, (locality, weight))| {
            Arc::new(Endpoint {
                address: address(i),
                hostname: None,
                weight: 1,
                priority: 0,
                locality: (*locality).into(),
                locality_weight: *weight,
                healthy: true,
                transport: Transport::Plain,
                workload: None,
                state: Arc::new(EndpointState::default()),
            })
        })
        .collect();
    rebuild(&mut cluster);
    cluster
}

#[test]
fn localities_get_their_weights() {
    for lb in [LbPolicy::RoundRobin, LbPolicy::LeastRequest(2), LbPolicy::Random] {
        let mut cluster = localities(&[("a", 70), ("b", 30), ("b", 30), ("c", 0)]);
        cluster.lb = lb;
        let counts = shares(&cluster, 1000);
        assert!((690..=710).contains(&counts[0]), "{lb:?}: {counts:?}");
        assert!(counts[1].abs_diff(counts[2]) < 80, "{lb:?}: {counts:?}");
        assert_eq!(counts[3], 0, "{lb:?}: without a weight there is no traffic");
    }
}

#[test]
fn localities_lose_weight_with_their_endpoints() {
    let cluster = localities(&[("a", 50), ("a", 50), ("b", 50), ("b", 50)]);
    // Half of b takes 1.4 times half of its weight: 35 of 85.
    eject(&cluster, 3);
    let counts = shares(&cluster, 1000);
    assert!((400..425).contains(&counts[2]) && counts[3] == 0, "{counts:?}");
    eject(&cluster, 2);
    assert_eq!(shares(&cluster, 100), [50, 50, 0, 0]);
}

#[test]
fn one_hash_goes_to_one_endpoint() {
    let ring = HashRule::Ring {
        minimum: 1024,
        maximum: 8 << 20,
    };
    for rule in [ring, HashRule::Maglev(65_537)] {
        let mut cluster = cluster(LbPolicy::Hash(rule), &[(1, 0, true); 3]);
        cluster.rules.hash = Some(rule);
        rebuild(&mut cluster);
        let worker = worker();
        let choose = |hash| {
            let context = PickContext {
                hash: Some(hash),
                ..PickContext::default()
            };
            usize::from(pick(&cluster, &worker, context).expect("one").address.port())
        };
        let hashes: Vec<u64> = (0_u64..300).map(|i| hash64(&i.to_le_bytes())).collect();
        let before: Vec<usize> = hashes.iter().map(|h| choose(*h)).collect();
        assert_eq!(before, hashes.iter().map(|h| choose(*h)).collect::<Vec<_>>());
        assert!(
            (0..3).all(|e| before.iter().filter(|b| **b == e).count() > 50),
            "{before:?}"
        );
        // Without a hash, chance decides.
        assert!(shares(&cluster, 300).iter().all(|n| *n > 50));
        // An ejected endpoint's hashes go elsewhere, most of the others stay.
        eject(&cluster, 0);
        let after: Vec<usize> = hashes.iter().map(|h| choose(*h)).collect();
        assert!(!after.contains(&0));
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != 0 && b != a).count();
        assert!(moved < 100, "{moved} of 300 moved without need");
        // Another attempt gets another endpoint.
        let tried = [address(1)];
        for hash in hashes {
            let context = PickContext {
                avoid: &tried,
                avoid_attempts: 1000,
                hash: Some(hash),
                ..PickContext::default()
            };
            assert_eq!(pick(&cluster, &worker, context).expect("one").address, address(2));
        }
    }
}

#[test]
fn new_endpoints_start_slowly() {
    let mut cluster = cluster(LbPolicy::RoundRobin, &[(1, 0, true); 2]);
    cluster.rules.slow_start = Some(SlowStart {
        window: Duration::from_secs(3600),
        aggression: 1.0,
        min_weight_percent: 10.0,
    });
    let came = |endpoint: usize| {
        let monitor = cluster.endpoints[endpoint].state.monitor.get_or_init(Box::default);
        monitor.since.get_or_init(Instant::now);
    };
    came(1);
    rebuild(&mut cluster);
    let counts = shares(&cluster, 1100);
    assert!((80..120).contains(&counts[1]), "{counts:?}");
}

#[test]
fn weights_grow_over_the_window() {
    let slow_start = SlowStart {
        window: Duration::from_secs(100),
        aggression: 1.0,
        min_weight_percent: 10.0,
    };
    let percent = |seconds| slow_start.percent(Duration::from_secs(seconds));
    assert_eq!(
        [0, 5, 10, 50, 100, 1000].map(percent),
        [10.0, 10.0, 10.0, 50.0, 100.0, 100.0]
    );
    let quick = SlowStart {
        aggression: 2.0,
        ..slow_start
    };
    assert!((quick.percent(Duration::from_secs(25)) - 50.0).abs() < 0.001);
}
