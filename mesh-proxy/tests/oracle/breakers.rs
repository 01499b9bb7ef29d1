//! Circuit breakers: what is over a limit is refused, counted, and told to the caller.

use crate::support::{Held, Setup, cluster, compare, get, serve, table};

pub(crate) const BEHAVIOURS: usize = 9;

const ROUTES: &str = r#"
- {match: {prefix: /pending}, route: {cluster: pending}}
- {match: {prefix: /waiting}, route: {cluster: waiting}}
- {match: {prefix: /requests}, route: {cluster: requests}}
- {match: {prefix: /budget}, route: {cluster: budget, retry_policy: {retry_on: 5xx, num_retries: 2}}}
- {match: {prefix: /retries}, route: {cluster: retries, retry_policy: {retry_on: 5xx, num_retries: 2}}}
"#;

/// One request per connection, so that connections are counted alike.
const ONE_EACH: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
                        {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
                        explicit_http_config: {http_protocol_options: {}}, common_http_protocol_options: \
                        {max_requests_per_connection: 1}}}";

#[test]
fn breakers() {
    let setup = || {
        let to = serve("there");
        let with = |name: &str, limits: &str| {
            let more = format!("circuit_breakers: {{thresholds: [{{{limits}, track_remaining: true}}]}}, {ONE_EACH}");
            cluster(name, &more, &[to])
        };
        Setup::of(
            table("", ROUTES),
            vec![
                with(
                    "pending",
                    "max_connections: 1, max_pending_requests: 1, max_requests: 1, max_retries: 1",
                ),
                with("waiting", "max_connections: 1, max_pending_requests: 2"),
                with("requests", "max_requests: 1"),
                with(
                    "budget",
                    "retry_budget: {budget_percent: {value: 0}, min_retry_concurrency: 0}",
                ),
                with("retries", "max_retries: 0"),
            ],
        )
    };
    let seen = compare("breakers", BEHAVIOURS, setup, |proxy, seen| {
        let parts = ["upstream_cx_overflow", "pending_overflow", "pending_total", "circuit_"];
        let one = proxy.hold(get("/pending"));
        proxy.until("cluster.pending.circuit_breakers.default.rq_open", "1");
        let two = proxy.hold(get("/pending"));
        proxy.until("cluster.pending.circuit_breakers.default.rq_pending_open", "1");
        seen.ask(proxy, "past the pending", 503, &get("/pending"));
        seen.add("counters past the pending", proxy.stats("cluster.pending", &parts));
        seen.add("those who waited", ended(vec![one, two]));

        let mut all = Vec::new();
        for (stat, left) in [
            ("remaining_cx", "0"),
            ("remaining_pending", "1"),
            ("remaining_pending", "0"),
        ] {
            all.push(proxy.hold(get("/waiting")));
            proxy.until(&format!("cluster.waiting.circuit_breakers.default.{stat}"), left);
        }
        seen.add("nobody past the pending", ended(all));
        // How often Envoy looks for a connection meanwhile (`upstream_cx_overflow`) is its own affair.
        seen.add(
            "counters of nobody past the pending",
            proxy.stats("cluster.waiting", &parts[1..]),
        );

        let one = proxy.hold(get("/requests"));
        proxy.until("cluster.requests.circuit_breakers.default.rq_open", "1");
        seen.ask(proxy, "past the requests", 503, &get("/requests"));
        seen.add(
            "counters past the requests",
            proxy.stats("cluster.requests", &["active_overflow", "pending_total", "circuit_"]),
        );
        ended(vec![one]);

        for (name, cluster) in [("no budget", "budget"), ("no retries at all", "retries")] {
            let ask = get(&format!("/{cluster}")).script("503");
            let mut lines = proxy.ask(&ask).lines();
            lines.extend(ask.attempts());
            lines.extend(proxy.stats(
                &format!("cluster.{cluster}"),
                &["upstream_rq_retry", "upstream_rq_total", "rq_retry_open"],
            ));
            seen.add(name, lines);
        }
    });
    if let Some(seen) = seen {
        let told = seen
            .of("past the pending")
            .iter()
            .any(|l| l == "x-envoy-overloaded: true");
        assert!(told, "{seen:?}");
    }
}

fn ended(all: Vec<Held>) -> Vec<String> {
    all.into_iter().flat_map(|held| held.end().lines()).collect()
}
