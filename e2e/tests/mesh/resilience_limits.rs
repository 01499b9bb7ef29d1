//! Limits of connections and requests, seen by the callers and by the counters: the lab on connection pools of chapter 6.

use crate::chain::Chain;
use crate::lab::lab_file;

/// What simple-web was told by its proxy.
const OVERLOADED: &str = "json:/upstream_calls/0/headers/x-envoy-overloaded";

#[test]
fn one_connection_and_two_callers_overflow_and_a_longer_queue_holds_them() {
    let test = "one_connection_and_two_callers_overflow_and_a_longer_queue_holds_them";
    // One pod that takes a second for each request.
    let files = [
        "simple-web-stats-incl.yaml",
        "simple-backend.yaml",
        "simple-backend-delayed.yaml",
        "simple-backend-vs-retry-on.yaml",
    ];
    let Some(chain) = Chain::start(test, &files) else {
        return;
    };
    chain.scale("simple-backend-2", 0);
    chain.reset_counters();
    assert_eq!(chain.load(8, 2, OVERLOADED).ok, 8, "without limits");
    for name in [
        "upstream_cx_overflow",
        "upstream_rq_pending_overflow",
        "upstream_rq_retry_overflow",
    ] {
        assert_eq!(
            chain.statistic(name),
            Some(0),
            "{name}, which the annotation lets through"
        );
    }

    // One request is on the connection and one waits; what comes while neither has begun is too much.
    chain.apply("simple-backend-dr-conn-limit.yaml");
    chain.reset_counters();
    // Who comes while the connection is being made is refused, who comes later wants one of its own first.
    let mut failed = 0;
    chain.at_last("more than one request waits, for a second connection", || {
        // So many that some are left when the connection is there.
        let report = chain.load(40, 2, OVERLOADED);
        let told = report.by_value.get("true").copied().unwrap_or_default();
        assert_eq!(told, report.failed(), "who is refused is told so: {report:#?}");
        failed += told;
        let wanted = chain.statistic("upstream_cx_overflow");
        if failed > 0 && wanted > Some(0) {
            Ok(())
        } else {
            Err(format!("{failed} refused, and {wanted:?} wanted another connection"))
        }
    });
    assert_eq!(
        chain.statistic("upstream_rq_pending_overflow"),
        Some(failed),
        "each refusal is counted once"
    );
    assert_eq!(
        chain.statistic("upstream_rq_retry"),
        Some(0),
        "nobody tries again where there is no room"
    );

    let two_wait = lab_file("ch6/simple-backend-dr-conn-limit.yaml");
    let two_wait = two_wait.replace("http1MaxPendingRequests: 1", "http1MaxPendingRequests: 2");
    chain.lab.apply(&two_wait);
    chain.reset_counters();
    assert_eq!(chain.load(8, 2, OVERLOADED).ok, 8, "two may wait, and nobody fails");
    assert_eq!(chain.statistic("upstream_rq_pending_overflow"), Some(0));
    assert!(chain.statistic("upstream_cx_overflow") > Some(0));
}
