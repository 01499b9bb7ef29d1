//! Limits of time.

use crate::support::{Setup, cluster, compare, get, serve, table};

pub(crate) const BEHAVIOURS: usize = 10;

const ROUTES: &str = r#"
- {match: {prefix: /route}, route: {cluster: there, timeout: 1s}}
- {match: {prefix: /none}, route: {cluster: there, timeout: 0s}}
- {match: {prefix: /idle}, route: {cluster: there, timeout: 0s, idle_timeout: 0.3s}}
- {match: {prefix: /retried}, route: {cluster: there, timeout: 1s, retry_policy: {retry_on: 5xx, num_retries: 5}}}
- {match: {prefix: /grpc/any}, route: {cluster: there, timeout: 9s, max_grpc_timeout: 0s}}
- {match: {prefix: /grpc/most}, route: {cluster: there, max_grpc_timeout: 0.3s}}
- {match: {prefix: /grpc/route}, route: {cluster: there, timeout: 0.3s}}
"#;

#[test]
fn timeouts() {
    let setup = || Setup {
        table: table("", ROUTES),
        clusters: vec![cluster("there", "", &[serve("there")])],
        ..Setup::default()
    };
    compare("timeouts", BEHAVIOURS, setup, |proxy, seen| {
        let mut ask = |name: &str, status, ask| seen.ask(proxy, name, status, &ask);
        ask("the route's timeout", 504, get("/route").script("silent"));
        ask("within the route's timeout", 200, get("/route"));
        ask("no timeout", 200, get("/none").script("late:50 200"));
        ask("nothing moves", 504, get("/idle").script("silent"));
        ask(
            "the timeout covers all attempts",
            504,
            get("/retried").script("503;silent"),
        );
        let grpc = |path| get(path).with("content-type", "application/grpc").script("silent");
        ask("a gRPC deadline", 200, grpc("/grpc/any").with("grpc-timeout", "300m"));
        ask(
            "a gRPC deadline above the most",
            200,
            grpc("/grpc/most").with("grpc-timeout", "9S"),
        );
        ask("a gRPC call without a deadline", 200, grpc("/grpc/most"));
        ask(
            "gRPC past the route's timeout",
            200,
            grpc("/grpc/route").with("grpc-timeout", "9S"),
        );
        seen.add(
            "statistics of timeouts",
            proxy.stats(
                "cluster.there",
                &[
                    "timeout",
                    "upstream_rq_5xx",
                    "upstream_rq_2xx",
                    "upstream_rq_completed",
                    "upstream_rq_total",
                ],
            ),
        );
    });
}
