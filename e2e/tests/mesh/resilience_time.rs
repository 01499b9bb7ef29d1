//! Time limits, and faults that a route makes: the labs on timeouts of chapter 6, and the book's fault injection.

use std::time::Duration;

use crate::chain::Chain;

const TIMEOUT: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(1);

#[test]
fn half_a_second_is_enough_or_it_is_a_504() {
    let files = ["simple-web.yaml", "simple-backend.yaml", "simple-backend-delayed.yaml"];
    let Some(chain) = Chain::start("half_a_second_is_enough_or_it_is_a_504", &files) else {
        return;
    };
    chain.apply("simple-backend-dr-rr.yaml");
    let slow = |(answer, took): &(e2e::runner::Answer, Duration)| answer.status == 200 && *took >= SLOW;
    let before: Vec<_> = (0..6).map(|_| chain.get()).collect();
    assert_eq!(
        before.iter().filter(|one| slow(one)).count(),
        2,
        "every third is slow: {before:?}"
    );

    chain.apply("simple-backend-vs-timeout.yaml");
    let after: Vec<_> = (0..12).map(|_| chain.get()).collect();
    let mut cut = Vec::new();
    for (answer, took) in after {
        let call = answer.json().expect("JSON")["upstream_calls"][0].clone();
        if call["code"] == 504 {
            assert_eq!(answer.status, 500, "{call}");
            assert!(took >= TIMEOUT, "{took:?}");
            cut.push(took);
        } else {
            assert_eq!(
                call["body"], "Hello from simple-backend-2",
                "the slow one never answers in time"
            );
        }
    }
    // Four by turns; a busy machine may make one of the others late too.
    assert!((4..=8).contains(&cut.len()), "{cut:?}");
    let fastest = cut.iter().min().copied().unwrap_or_default();
    assert!(fastest < SLOW, "cut off before the answer would have come: {cut:?}");
}

/// As the book has them, with the backend's name.
fn fault(fault: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: simple-backend-vs}}\nspec:\n  hosts: [simple-backend]\n  \
         http:\n  - route: [{{destination: {{host: simple-backend}}}}]\n    fault: {{{fault}}}\n"
    )
}

#[test]
fn routes_delay_and_abort_as_the_book_has_it() {
    let files = ["simple-web.yaml", "simple-backend.yaml"];
    let Some(chain) = Chain::start("routes_delay_and_abort_as_the_book_has_it", &files) else {
        return;
    };
    chain.lab.apply(&fault("delay: {fixedDelay: 3s, percent: 100}"));
    let (answer, took) = chain.get();
    assert_eq!(answer.status, 200);
    assert!(took >= Duration::from_secs(3), "{took:?}");
    let (_, report) = chain.pods(8, 8);
    assert_eq!(report.ok, 8, "{report:?}");
    assert!(report.latency_ms.p50 >= 3000.0, "{report:?}");

    chain.lab.apply(&fault("abort: {httpStatus: 500, percent: 20}"));
    // Five standard deviations around 80.
    let codes = chain.codes(400, 16);
    let aborted = codes.get("500").copied().unwrap_or_default();
    assert!((40..=120).contains(&aborted), "{codes:?}");
    assert_eq!(
        codes.get("200").copied().unwrap_or_default() + aborted,
        400,
        "{codes:?}"
    );
}
