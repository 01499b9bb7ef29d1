//! Hedging: another attempt while the first one is still on its way.

use crate::support::{Setup, cluster, compare, get, serve, table};

pub(crate) const BEHAVIOURS: usize = 2;

const POLICY: &str =
    "{retry_on: reset, num_retries: 2, per_try_timeout: 0.6s, retry_back_off: {base_interval: 0.001s}}";

#[test]
fn hedging() {
    let setup = || Setup {
        table: table(
            "hedge_policy: {hedge_on_per_try_timeout: true}\n",
            &format!("- {{match: {{prefix: /}}, route: {{cluster: late, timeout: 15s, retry_policy: {POLICY}}}}}\n"),
        ),
        clusters: vec![cluster("late", "", &[serve("late")])],
        ..Setup::default()
    };
    let parts = ["per_try_timeout", "upstream_rq_retry", "upstream_rq_timeout"];
    compare("hedging", BEHAVIOURS, setup, |proxy, seen| {
        seen.ask(proxy, "a late attempt", 201, &get("/").script("silent;201;202"));
        seen.add("statistics of a late attempt", proxy.stats("cluster.late", &parts));
    });
}
