//! Which endpoint gets a request: the labs on load balancing of chapter 6.

use crate::chain::Chain;

const FILES: &[&str] = &["simple-web.yaml", "simple-backend.yaml", "simple-backend-dr-rr.yaml"];

#[test]
fn round_robin_is_even_and_least_request_avoids_the_slow_one() {
    let test = "round_robin_is_even_and_least_request_avoids_the_slow_one";
    let Some(chain) = Chain::start(test, FILES) else { return };

    let (pods, report) = chain.pods(600, 24);
    assert_eq!((report.ok, pods.len()), (600, 3), "{pods:?}");
    assert!(pods.values().all(|n| (176..=224).contains(n)), "a third each: {pods:?}");

    // One of three takes a second: whoever gives it a third of the requests waits that long at p90.
    chain.apply("simple-backend-delayed.yaml");
    let p90 = |count| chain.pods(count, 10).1.latency_ms.p90;
    let round_robin = p90(120);
    assert!(round_robin >= 1000.0, "round robin: {round_robin} ms");
    chain.apply("simple-backend-dr-random.yaml");
    let random = p90(120);
    assert!(random >= 1000.0, "random: {random} ms");

    // Even numbers of open requests would give the slow one 7 of 100. Where the machine is so busy that the others are slow
    // too it can be more once, but not as much as by turns.
    chain.apply("simple-backend-dr-least-conn.yaml");
    chain.at_last("least request avoids the slow one", || {
        let (slow, _) = chain.halves(120, 10);
        if slow < 24 {
            Ok(())
        } else {
            Err(format!("{slow} of 120"))
        }
    });
}
