//! What retries hide, and what not: the labs of chapter 6 with a backend that fails three of four requests.
//!
//! The bad one is one of three, so a quarter of all requests fails unless somebody tries again; the labs count about 28 of
//! 100. A second attempt goes to another endpoint, so that one is always enough.

use crate::chain::Chain;

/// A quarter of 120, and a little for requests that come side by side.
const HIDDEN_FROM_NOBODY: std::ops::RangeInclusive<u64> = 24..=36;

fn start(test: &str, failing: &str) -> Option<Chain> {
    let chain = Chain::start(test, &["simple-web.yaml", "simple-backend.yaml", failing])?;
    chain.apply("simple-backend-dr-rr.yaml");
    Some(chain)
}

#[test]
fn answers_500_are_retried_only_where_a_route_asks_for_it() {
    let test = "answers_500_are_retried_only_where_a_route_asks_for_it";
    let Some(chain) = start(test, "simple-backend-periodic-failure-500.yaml") else {
        return;
    };
    let failed = 120 - chain.good(120);
    assert!(HIDDEN_FROM_NOBODY.contains(&failed), "by default: {failed} of 120");

    chain.apply("simple-backend-enable-retry.yaml");
    let failed = 120 - chain.good(120);
    assert!(
        HIDDEN_FROM_NOBODY.contains(&failed),
        "two attempts, no word on 500: {failed} of 120"
    );

    let before = chain.attempts();
    chain.apply("simple-backend-vs-retry-500.yaml");
    assert_eq!(chain.good(120), 120, "retried on 5xx");
    // One for each failure; the turns that these take move what comes after.
    let more = chain.attempts() - before - 120;
    assert!((20..=60).contains(&more), "more attempts: {more}");
}

#[test]
fn answers_503_are_retried_by_default_and_with_an_explicit_count() {
    let test = "answers_503_are_retried_by_default_and_with_an_explicit_count";
    let Some(chain) = start(test, "simple-backend-periodic-failure-503.yaml") else {
        return;
    };
    assert_eq!(chain.good(120), 120, "by default");

    chain.apply("simple-service-disable-retry.yaml");
    let failed = 120 - chain.good(120);
    assert!(HIDDEN_FROM_NOBODY.contains(&failed), "without retries: {failed} of 120");

    chain.apply("simple-backend-enable-retry.yaml");
    assert_eq!(chain.good(120), 120, "two attempts");
    chain.apply("simple-web-gateway-retry.yaml");
    assert_eq!(chain.good(60), 60, "and two at the gateway");
}

#[test]
fn answers_408_are_retried_only_with_the_envoy_filter() {
    let test = "answers_408_are_retried_only_with_the_envoy_filter";
    let Some(chain) = start(test, "simple-backend-periodic-failure-408.yaml") else {
        return;
    };
    chain.apply("simple-backend-vs-retry-on.yaml");
    let codes = chain.codes(120, 2);
    let failed = codes.get("408").copied().unwrap_or_default();
    assert!(HIDDEN_FROM_NOBODY.contains(&failed), "without the filter: {codes:?}");

    chain.apply("simple-backend-ef-retry-status-codes.yaml");
    assert_eq!(chain.good(120), 120, "with the filter");
    chain.delete("EnvoyFilter", "simple-backend-retry-status-codes");
    let failed = 120 - chain.good(120);
    assert!(
        HIDDEN_FROM_NOBODY.contains(&failed),
        "without it again: {failed} of 120"
    );
}

#[test]
fn hedging_cuts_the_slow_tail() {
    let files = ["simple-web.yaml", "simple-backend.yaml", "simple-backend-delayed.yaml"];
    let Some(chain) = Chain::start("hedging_cuts_the_slow_tail", &files) else {
        return;
    };
    chain.apply("simple-backend-dr-rr.yaml");
    let slow = chain.pods(60, 4).1.latency_ms.p90;
    assert!(slow >= 1000.0, "one of three takes a second: {slow} ms");

    // The lab's filter needs a time for each try; a try that takes longer goes on while another one begins.
    chain.lab.apply(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: simple-backend-vs}\nspec:\n  hosts: [simple-backend]\n  \
         http: [{route: [{destination: {host: simple-backend}}], retries: {attempts: 2, perTryTimeout: 400ms, retryOn: '5xx'}}]\n",
    );
    chain.apply("simple-backend-ef-retry-hedge.yaml");
    chain.at_last("the slow one is not waited for", || {
        let report = chain.load(60, 4, "json:/upstream_calls/0/body");
        assert_eq!(report.ok, 60, "{report:#?}");
        if report.latency_ms.p99 < slow {
            Ok(())
        } else {
            Err(format!("{report:?}"))
        }
    });
}

#[test]
fn a_retry_budget_keeps_retries_a_part_of_the_load() {
    let test = "a_retry_budget_keeps_retries_a_part_of_the_load";
    let files = [
        "simple-web-stats-incl.yaml",
        "simple-backend.yaml",
        "simple-backend-periodic-failure-500.yaml",
        "simple-backend-dr-rr.yaml",
        "simple-backend-vs-retry-500.yaml",
    ];
    let Some(chain) = Chain::start(test, &files) else {
        return;
    };
    let overflow = || chain.statistic("upstream_rq_retry_overflow");
    assert_eq!(chain.good(60), 60);
    chain.load(240, 64, "json:/code");
    assert_eq!(overflow(), Some(0), "without a budget anybody may try again");

    chain.apply("simple-backend-ef-retry-budgets.yaml");
    chain.reset_counters();
    assert_eq!(chain.good(60), 60, "there is room for five at any time");
    assert_eq!(overflow(), Some(0));
    // A fifth of 64 open requests is twelve; a quarter of those that come at once fail.
    chain.at_last("more retries than the budget allows", || {
        let report = chain.load(240, 64, "json:/code");
        if overflow() > Some(0) {
            Ok(())
        } else {
            Err(format!("{report:?}"))
        }
    });
}
