//! Outlier detection.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::snapshot::{LiveIndex, RateRule, Transport};
use crate::testing;

fn settings() -> OutlierDetection {
    let never = RateRule {
        enforcing: 0,
        enforcing_local: 0,
        minimum_hosts: 5,
        request_volume: 100,
    };
    let threshold = |count, enforcing| Threshold { count, enforcing };
    OutlierDetection {
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        jitter: Duration::ZERO,
        max_ejection_percent: 100,
        always_eject_one: false,
        split: false,
        consecutive_5xx: threshold(3, 100),
        gateway_failure: threshold(5, 0),
        local_origin: threshold(2, 100),
        success_rate: never,
        stdev_factor: 1900,
        failure_percentage: never,
        failure_threshold: 85,
    }
}

fn cluster(endpoints: u16, settings: OutlierDetection) -> Cluster {
    let addresses: Vec<_> = (1..=endpoints).map(|p| ([10, 0, 0, 1], p).into()).collect();
    let mut cluster = testing::cluster("c", &addresses, &Transport::Plain);
    cluster.outlier = Some(Arc::new(settings));
    cluster.live = Some(LiveIndex::default());
    cluster
}

fn answer(cluster: &Cluster, endpoint: usize, statuses: &[u16]) {
    for status in statuses {
        observe(cluster, &cluster.endpoints[endpoint], Outcome::Status(*status));
    }
}

fn is_ejected(cluster: &Cluster, endpoint: usize) -> bool {
    cluster.endpoints[endpoint].state.ejected.load(Relaxed)
}

fn tick(cluster: &Cluster) {
    let settings = cluster.outlier.clone().expect("settings");
    sweep(cluster, &settings, Instant::now());
}

/// Intervals that end so many seconds after what was just ejected.
fn after(cluster: &Cluster, seconds: &[u64]) {
    let settings = cluster.outlier.clone().expect("settings");
    for seconds in seconds {
        sweep(cluster, &settings, Instant::now() + Duration::from_secs(*seconds));
    }
}

#[test]
fn errors_in_a_row_eject() {
    let cluster = cluster(3, settings());
    answer(&cluster, 0, &[500, 503, 200, 500, 500, 404]);
    assert!(!is_ejected(&cluster, 0), "never three in a row");
    answer(&cluster, 0, &[500, 502, 501]);
    assert!(is_ejected(&cluster, 0));
    let stats = cluster.stats.outlier();
    assert_eq!(stats.ejections_active.get(), 1);
    assert_eq!(stats.ejections_enforced_total.get(), 1);
    assert_eq!(stats.enforced[Kind::Consecutive5xx as usize].get(), 1);
    assert_eq!(stats.detected[Kind::Consecutive5xx as usize].get(), 1);
    assert_eq!(cluster.stats.membership_healthy.get(), 2);
    // What is still on its way there changes nothing.
    answer(&cluster, 0, &[500, 500, 500]);
    assert_eq!(stats.detected[Kind::Consecutive5xx as usize].get(), 1);
}

#[test]
fn ejections_grow_and_shrink() {
    let cluster = cluster(2, settings());
    let eject = || answer(&cluster, 0, &[500; 3]);
    eject();
    after(&cluster, &[10, 20]);
    assert!(is_ejected(&cluster, 0), "after 20 s of 30");
    after(&cluster, &[30]);
    assert!(!is_ejected(&cluster, 0), "after 30 s");
    assert_eq!(cluster.stats.membership_healthy.get(), 2);
    assert_eq!(cluster.stats.outlier().ejections_active.get(), 0);
    // Again at once: twice as long.
    eject();
    after(&cluster, &[30, 50]);
    assert!(is_ejected(&cluster, 0), "after 50 s of 60");
    after(&cluster, &[60]);
    assert!(!is_ejected(&cluster, 0));
    // Two healthy intervals later it is as if it was the first time.
    after(&cluster, &[70, 80]);
    eject();
    after(&cluster, &[30]);
    assert!(!is_ejected(&cluster, 0), "after 30 s");
}

#[test]
fn ejections_take_no_longer_than_allowed() {
    let cluster = cluster(
        2,
        OutlierDetection {
            max_ejection_time: Duration::from_secs(50),
            ..settings()
        },
    );
    answer(&cluster, 0, &[500; 3]);
    after(&cluster, &[30]);
    for _ in 0..3 {
        answer(&cluster, 0, &[500; 3]);
        after(&cluster, &[40]);
        assert!(is_ejected(&cluster, 0));
        after(&cluster, &[50]);
        assert!(!is_ejected(&cluster, 0));
    }
}

#[test]
fn no_more_are_ejected_than_allowed() {
    let mut settings = settings();
    settings.max_ejection_percent = 50;
    let cluster = cluster(4, settings.clone());
    for endpoint in 0..3 {
        answer(&cluster, endpoint, &[500; 3]);
    }
    assert!(is_ejected(&cluster, 0) && is_ejected(&cluster, 1) && !is_ejected(&cluster, 2));
    assert_eq!(cluster.stats.outlier().ejections_overflow.get(), 1);
    // It is looked at again with the next ones in a row.
    answer(&cluster, 2, &[500; 3]);
    assert_eq!(cluster.stats.outlier().ejections_overflow.get(), 2);
    settings.max_ejection_percent = 10;
    let none = self::cluster(4, settings.clone());
    answer(&none, 0, &[500; 3]);
    assert!(!is_ejected(&none, 0));
    settings.always_eject_one = true;
    let one = self::cluster(4, settings);
    answer(&one, 0, &[500; 3]);
    answer(&one, 1, &[500; 3]);
    assert!(is_ejected(&one, 0) && !is_ejected(&one, 1));
}

#[test]
fn what_is_not_enforced_is_counted() {
    let mut settings = settings();
    settings.gateway_failure = Threshold { count: 2, enforcing: 0 };
    let cluster = cluster(2, settings);
    answer(&cluster, 0, &[503, 504]);
    let stats = cluster.stats.outlier();
    assert_eq!(stats.detected[Kind::ConsecutiveGatewayFailure as usize].get(), 1);
    assert_eq!(stats.enforced[Kind::ConsecutiveGatewayFailure as usize].get(), 0);
    assert!(!is_ejected(&cluster, 0));
    // 5xx in a row are counted beside them.
    answer(&cluster, 0, &[500]);
    assert!(is_ejected(&cluster, 0));
}

#[test]
fn errors_of_local_origin_are_told_apart_when_asked_for() {
    let observe_all = |cluster: &Cluster, outcomes: &[Outcome]| {
        for outcome in outcomes {
            observe(cluster, &cluster.endpoints[0], *outcome);
        }
    };
    // Together: all of them are worth a 5xx.
    let together = cluster(2, settings());
    observe_all(
        &together,
        &[Outcome::ConnectFailed, Outcome::Timeout, Outcome::Status(500)],
    );
    assert!(is_ejected(&together, 0));
    let mut settings = settings();
    settings.split = true;
    let split = cluster(2, settings);
    observe_all(
        &split,
        &[Outcome::Status(500), Outcome::ConnectFailed, Outcome::Status(500)],
    );
    assert!(!is_ejected(&split, 0), "two of one, one of the other");
    observe_all(&split, &[Outcome::ConnectFailed, Outcome::ConnectFailed]);
    assert!(is_ejected(&split, 0));
    let stats = split.stats.outlier();
    assert_eq!(stats.enforced[Kind::ConsecutiveLocalOriginFailure as usize].get(), 1);
}

#[test]
fn rates_are_compared_over_an_interval() {
    let mut settings = settings();
    settings.consecutive_5xx.count = 0;
    settings.success_rate = RateRule {
        enforcing: 100,
        enforcing_local: 0,
        minimum_hosts: 3,
        request_volume: 10,
    };
    settings.stdev_factor = 1000;
    let by_rate = cluster(4, settings.clone());
    let load = |cluster: &Cluster| {
        for endpoint in 0..3 {
            answer(cluster, endpoint, &[200; 20]);
        }
        for _ in 0..10 {
            answer(cluster, 3, &[200, 500]);
        }
    };
    load(&by_rate);
    tick(&by_rate);
    let ejected: Vec<_> = (0..4).map(|e| is_ejected(&by_rate, e)).collect();
    assert_eq!(ejected, [false, false, false, true]);
    assert_eq!(by_rate.stats.outlier().enforced[Kind::SuccessRate as usize].get(), 1);
    // Half of the requests fail: that is 50 %.
    settings.success_rate.enforcing = 0;
    settings.failure_percentage = RateRule {
        enforcing: 100,
        ..settings.success_rate
    };
    settings.failure_percentage.enforcing = 100;
    settings.failure_threshold = 50;
    let by_percentage = cluster(4, settings);
    load(&by_percentage);
    tick(&by_percentage);
    let ejected: Vec<_> = (0..4).map(|e| is_ejected(&by_percentage, e)).collect();
    assert_eq!(ejected, [false, false, false, true]);
    let stats = by_percentage.stats.outlier();
    assert_eq!(stats.enforced[Kind::FailurePercentage as usize].get(), 1);
    // The next interval starts at nothing.
    tick(&by_percentage);
    assert_eq!(stats.detected[Kind::FailurePercentage as usize].get(), 1);
}

#[test]
fn grpc_statuses_count_as_the_http_statuses_they_stand_for() {
    let cluster = cluster(2, settings());
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", http::HeaderValue::from_static("14"));
    for grpc in [false, true] {
        for _ in 0..3 {
            observe_answer(&cluster, &cluster.endpoints[0], 200, &headers, grpc);
        }
        assert_eq!(is_ejected(&cluster, 0), grpc);
    }
}

#[tokio::test]
async fn the_task_takes_endpoints_back() {
    let shared = Shared::new(crate::shared::Node::default());
    let quick = OutlierDetection {
        interval: Duration::from_millis(10),
        base_ejection_time: Duration::from_millis(50),
        ..settings()
    };
    let cluster = Arc::new(cluster(2, quick));
    let mut snapshot = crate::snapshot::Snapshot::default();
    snapshot.clusters.insert("c".into(), cluster.clone());
    shared.publish(snapshot);
    let task = tokio::spawn(run(shared.clone()));
    answer(&cluster, 0, &[500; 3]);
    let began = Instant::now();
    while is_ejected(&cluster, 0) {
        assert!(began.elapsed() < Duration::from_secs(60), "still ejected");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(49));
    task.abort();
}
