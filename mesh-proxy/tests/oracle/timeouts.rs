//! Limits of time.

use crate::support::{Proxy, Seen, Setup, compare, get};

pub(crate) const BEHAVIOURS: usize = 17;

const ROUTES: &str = r#"
- {match: {prefix: /route}, route: {cluster: there, timeout: 1s}}
- {match: {prefix: /none}, route: {cluster: there, timeout: 0s}}
- {match: {prefix: /idle}, route: {cluster: there, timeout: 0s, idle_timeout: 0.3s}}
- {match: {prefix: /retried}, route: {cluster: there, timeout: 1s, retry_policy: {retry_on: 5xx, num_retries: 5}}}
- {match: {prefix: /grpc/any}, route: {cluster: there, timeout: 9s, max_grpc_timeout: 0s}}
- {match: {prefix: /grpc/most}, route: {cluster: there, max_grpc_timeout: 0.3s}}
- {match: {prefix: /grpc/route}, route: {cluster: there, timeout: 0.3s}}
- {match: {prefix: /stream/most}, route: {cluster: there, timeout: 9s, max_stream_duration: {grpc_timeout_header_max: 0.3s}}}
- {match: {prefix: /stream/any}, route: {cluster: there, timeout: 0.3s, max_stream_duration: {grpc_timeout_header_max: 0s}}}
- match: {prefix: /stream/tries}
  route: {cluster: there, max_stream_duration: {grpc_timeout_header_max: 0s}, retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.3s}}
"#;

#[test]
fn timeouts() {
    let setup = || Setup::there(ROUTES);
    compare("timeouts", BEHAVIOURS, setup, |proxy, seen| {
        answers(proxy, seen);
        seen.add(
            "statistics of callers' timeouts",
            proxy.stats(
                "http.front",
                &[
                    "downstream_rq_timeout",
                    "downstream_rq_idle_timeout",
                    "downstream_rq_max_duration_reached",
                ],
            ),
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

fn answers(proxy: &Proxy, seen: &mut Seen) {
    let mut ask = seen.asking(proxy);
    ask("the route's timeout", 504, get("/route").script("silent"));
    ask("within the route's timeout", 200, get("/route"));
    ask("no timeout", 200, get("/none").script("late:50 200"));
    ask("nothing moves", 504, get("/idle").script("silent"));
    ask(
        "the timeout covers all attempts",
        504,
        get("/retried").script("503;silent"),
    );
    let grpc = |path| get(path).grpc().script("silent");
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
    ask(
        "a deadline of the stream above the most",
        200,
        grpc("/stream/most").with("grpc-timeout", "9S"),
    );
    ask(
        "a deadline of the stream",
        200,
        grpc("/stream/any").with("grpc-timeout", "300123u"),
    );
    let plain = |timeout| get("/stream/any").with("grpc-timeout", timeout);
    ask("a deadline without gRPC", 504, plain("300m").script("silent"));
    ask("a deadline that is none", 200, plain("soon").script("late:600 200"));
    ask(
        "no deadline, and not the route's timeout",
        200,
        get("/stream/any").script("late:600 200"),
    );
    ask(
        "tries that take too long, within the deadline",
        200,
        grpc("/stream/tries").with("grpc-timeout", "9S"),
    );
}
