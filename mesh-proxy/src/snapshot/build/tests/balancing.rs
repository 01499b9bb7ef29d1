//! What clusters say of load balancing and outlier detection.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::snapshot::{HashRule, LbPolicy, Threshold};

fn cluster(yaml: &str) -> Arc<crate::snapshot::Cluster> {
    let yaml = format!("name: c\n{yaml}");
    accept(&mut impatient(), CLUSTER, &[("c", &yaml)]).clusters["c"].clone()
}

#[test]
fn outlier_detection_has_envoys_defaults() {
    let cluster = cluster("outlier_detection: {}");
    let settings = cluster.outlier.as_ref().expect("settings");
    assert_eq!(settings.interval, Duration::from_secs(10));
    assert_eq!(settings.base_ejection_time, Duration::from_secs(30));
    assert_eq!(settings.max_ejection_time, Duration::from_secs(300));
    assert_eq!(settings.max_ejection_percent, 10);
    let threshold = |enforcing| Threshold { count: 5, enforcing };
    assert_eq!(settings.consecutive_5xx, threshold(100));
    assert_eq!(settings.gateway_failure, threshold(0));
    assert_eq!(settings.local_origin, threshold(100));
    assert_eq!(
        (settings.success_rate.enforcing, settings.failure_percentage.enforcing),
        (100, 0)
    );
    assert!(cluster.live.is_some());
}

#[test]
fn clusters_without_it_pay_nothing_for_outlier_detection() {
    let plain = cluster("lb_policy: LEAST_REQUEST");
    assert!(plain.outlier.is_none() && plain.live.is_none());
}

#[test]
fn outlier_detection_as_istio_sets_it() {
    let cluster = cluster(
        "outlier_detection: {consecutive_5xx: 0, enforcing_consecutive_5xx: 0, consecutive_gateway_failure: 3, \
         enforcing_consecutive_gateway_failure: 100, interval: 5s, base_ejection_time: 400s, max_ejection_percent: 100, \
         enforcing_success_rate: 0, split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, \
         enforcing_consecutive_local_origin_failure: 100, enforcing_local_origin_success_rate: 0}\n\
         common_lb_config: {healthy_panic_threshold: {value: 30}, locality_weighted_lb_config: {}}",
    );
    let settings = cluster.outlier.as_ref().expect("settings");
    assert_eq!(settings.consecutive_5xx.count, 0);
    assert_eq!(
        settings.gateway_failure,
        Threshold {
            count: 3,
            enforcing: 100
        }
    );
    assert!(settings.split);
    assert_eq!(
        settings.max_ejection_time,
        Duration::from_secs(400),
        "at least the base"
    );
    assert_eq!(cluster.rules.panic_threshold, 30.0);
    assert!(cluster.rules.locality_weighted);
}

#[test]
fn ejected_endpoints_stay_so_when_the_configuration_changes() {
    let mut builder = impatient();
    let yaml = |more: &str| {
        let list = "{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}";
        format!("name: c\nload_assignment: {{cluster_name: c, endpoints: [{list}]}}\n{more}")
    };
    let with = yaml("outlier_detection: {}");
    let before = accept(&mut builder, CLUSTER, &[("c", &with)]);
    before.clusters["c"].endpoints[0].state.ejected.store(true, Relaxed);
    let with = yaml("outlier_detection: {interval: 7s}");
    let after = accept(&mut builder, CLUSTER, &[("c", &with)]);
    assert!(after.clusters["c"].endpoints[0].state.ejected.load(Relaxed));
    assert_eq!(after.clusters["c"].stats.membership_healthy.get(), 0);
    // Without outlier detection nobody would take it back.
    let without = accept(&mut builder, CLUSTER, &[("c", &yaml(""))]);
    assert!(!without.clusters["c"].endpoints[0].state.ejected.load(Relaxed));
}

#[test]
fn consistent_hashing_has_envoys_defaults() {
    let rule = |yaml: &str| match cluster(yaml).lb {
        LbPolicy::Hash(rule) => rule,
        other => panic!("{other:?}"),
    };
    let ring = |minimum| HashRule::Ring {
        minimum,
        maximum: 8 << 20,
    };
    assert_eq!(rule("lb_policy: RING_HASH"), ring(1024));
    assert_eq!(
        rule("lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 5}"),
        ring(5)
    );
    assert_eq!(rule("lb_policy: MAGLEV"), HashRule::Maglev(65_537));
    assert_eq!(
        rule("lb_policy: MAGLEV\nmaglev_lb_config: {table_size: 101}"),
        HashRule::Maglev(101)
    );
}

#[test]
fn slow_start_has_envoys_defaults() {
    let cluster = cluster("round_robin_lb_config: {slow_start_config: {slow_start_window: 60s}}");
    let slow_start = cluster.rules.slow_start.expect("slow start");
    assert_eq!(slow_start.window, Duration::from_secs(60));
    assert_eq!((slow_start.aggression, slow_start.min_weight_percent), (1.0, 10.0));
    assert!(cluster.live.is_some());
}
