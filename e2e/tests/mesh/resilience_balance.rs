//! Which endpoint gets a request: the labs on load balancing of chapter 6.

use crate::chain::Chain;

const FILES: &[&str] = &["simple-web.yaml", "simple-backend.yaml", "simple-backend-dr-rr.yaml"];

/// With as many open requests at each endpoint the slow one, which takes six times as long, gets 7 of 100. Who looks at two of
/// the three gives it more, the fewer callers there are: 9 to 10 of 100 with 10 of them, 8 with these. So p90 is clear of it.
const CALLERS: usize = 40;

#[test]
fn round_robin_is_even_and_least_request_avoids_the_slow_one() {
    let test = "round_robin_is_even_and_least_request_avoids_the_slow_one";
    let Some(chain) = Chain::start(test, FILES) else { return };

    let (pods, report) = chain.pods(600, 24);
    assert_eq!((report.ok, pods.len()), (600, 3), "{pods:?}");
    assert!(pods.values().all(|n| (176..=224).contains(n)), "a third each: {pods:?}");

    // One of three takes a second: whoever gives it a third of the requests waits that long at p90.
    chain.apply("simple-backend-delayed.yaml");
    let p90 = |count| chain.pods(count, CALLERS).1.latency_ms.p90;
    let round_robin = p90(400);
    assert!(round_robin >= 1000.0, "round robin: {round_robin} ms");
    chain.apply("simple-backend-dr-random.yaml");
    let random = p90(400);
    assert!(random >= 1000.0, "random: {random} ms");

    chain.apply("simple-backend-dr-least-conn.yaml");
    chain.at_last("least request beats the others at p90", || {
        let least = p90(2000);
        if least < round_robin.min(random) / 2.0 {
            return Ok(());
        }
        Err(format!("p90 is {least} ms"))
    });
}
