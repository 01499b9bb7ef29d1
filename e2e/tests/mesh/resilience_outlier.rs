//! Endpoints that fail are left out for a while: the labs on outlier detection of chapter 6.

use std::process::Command;

use crate::chain::{CLUSTER, Chain};

#[test]
fn ejection_takes_errors_from_a_quarter_to_a_few_and_retries_take_the_rest() {
    let test = "ejection_takes_errors_from_a_quarter_to_a_few_and_retries_take_the_rest";
    let files = [
        "simple-web-stats-incl.yaml",
        "simple-backend.yaml",
        "simple-backend-periodic-failure-500.yaml",
    ];
    let Some(chain) = Chain::start(test, &files) else {
        return;
    };
    // The labs count 28 of 100; who fails at once has fewest open requests, and so gets a little more than a third.
    let failed = 120 - chain.good(120);
    assert!((20..=60).contains(&failed), "{failed} of 120 without ejection");

    // Ejected for 5 s, then for 10 s, and so on: each time one request of the two callers fails, or both do.
    chain.apply("simple-backend-dr-outlier-5s.yaml");
    let failed = 120 - chain.good(120);
    assert!((1..=8).contains(&failed), "{failed} of 120 with ejection");
    assert!(chain.statistic("outlier_detection.ejections_enforced_consecutive_5xx") > Some(0));

    // For half a minute now, so that it can be looked at.
    chain.apply("simple-backend-dr-outlier.yaml");
    let meshctl = e2e::testing::programs().join("meshctl");
    chain.at_last("the endpoint is shown as FAILED, the others as OK", || {
        let answer = chain.get().0.status;
        let ejected: Vec<_> = chain
            .endpoints()
            .into_iter()
            .filter(|e| e.ejected)
            .map(|e| e.workload)
            .collect();
        if ejected != ["simple-backend-1"] {
            return Err(format!("ejected are {ejected:?} after an answer {answer}"));
        }
        let mut listing = Command::new(&meshctl);
        listing.args(["proxy-config", "endpoint"]);
        let listing = chain.lab.mesh.inside("simple-web", move || listing.output());
        let listing = listing.expect("a pod").expect("meshctl runs");
        let shown = String::from_utf8_lossy(&listing.stdout).into_owned();
        let bad = format!("{}:", chain.lab.mesh.pod("simple-backend-1").expect("a pod").ip);
        let check = |line: &&str| line.split_whitespace().nth(2).map(str::to_owned);
        let of_bad = shown
            .lines()
            .find(|l| l.contains(CLUSTER) && l.starts_with(&bad))
            .as_ref()
            .and_then(check);
        let of_others = shown.lines().filter(|l| l.contains(CLUSTER) && !l.starts_with(&bad));
        let of_others: Vec<_> = of_others.filter_map(|l| check(&l)).collect();
        if of_bad.as_deref() == Some("FAILED") && of_others == ["OK", "OK"] {
            return Ok(());
        }
        Err(shown)
    });

    chain.apply("simple-backend-dr-outlier-5s.yaml");
    chain.apply("simple-backend-vs-retry-500.yaml");
    chain.reset_counters();
    assert_eq!(chain.good(120), 120, "with retries on 5xx nobody notices");
}
