//! Retries: when, how often, where, and what the upstream sees of them.

use crate::support::{Proxy, Seen, Setup, cluster, compare, get, post, refusing, serve, table};

pub(crate) const BEHAVIOURS: usize = 36;

const ROUTES: &str = r#"
- {match: {prefix: /5xx}, route: {cluster: there, retry_policy: {retry_on: 5xx, num_retries: 2, BACK_OFF}}}
- {match: {prefix: /gateway}, route: {cluster: there, retry_policy: {retry_on: gateway-error, num_retries: 2, BACK_OFF}}}
- {match: {prefix: /reset}, route: {cluster: there, retry_policy: {retry_on: reset, num_retries: 2, BACK_OFF}}}
- {match: {prefix: /before}, route: {cluster: there, retry_policy: {retry_on: reset-before-request, num_retries: 2, BACK_OFF}}}
- {match: {prefix: /connect}, route: {cluster: refused, retry_policy: {retry_on: connect-failure, num_retries: 2, BACK_OFF}}}
- {match: {prefix: /unconnected}, route: {cluster: refused, retry_policy: {retry_on: retriable-4xx, num_retries: 2, BACK_OFF}}}
- {match: {prefix: /4xx}, route: {cluster: there, retry_policy: {retry_on: retriable-4xx, BACK_OFF}}}
- {match: {prefix: /codes}, route: {cluster: there, retry_policy: {retry_on: retriable-status-codes, retriable_status_codes: [408, 418], num_retries: 1, BACK_OFF}}}
- match: {prefix: /headers}
  route: {cluster: there, retry_policy: {retry_on: retriable-headers, retriable_headers: [{name: x-again, string_match: {exact: "yes"}}], num_retries: 3, BACK_OFF}}
- {match: {prefix: /limited}, route: {cluster: there, retry_policy: {retry_on: "5xx,envoy-ratelimited", num_retries: 1, BACK_OFF}}}
- {match: {prefix: /grpc}, route: {cluster: there, retry_policy: {retry_on: "unavailable,cancelled", num_retries: 1, BACK_OFF}}}
- {match: {prefix: /none}, route: {cluster: there, retry_policy: {retry_on: 5xx, num_retries: 0}}}
- {match: {prefix: /once}, route: {cluster: there, retry_policy: {retry_on: 5xx, BACK_OFF}}}
- {match: {prefix: /try}, route: {cluster: there, timeout: 12s, retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.6s, BACK_OFF}}}
- {match: {prefix: /counted}, stat_prefix: lab, route: {cluster: counted, retry_policy: {retry_on: 5xx, num_retries: 2, BACK_OFF}}}
- {match: {prefix: /overloaded}, route: {cluster: overloaded, retry_policy: {retry_on: 5xx, num_retries: 2, BACK_OFF}}}
- {match: {prefix: /mixed}, route: {cluster: mixed, retry_policy: {retry_on: connect-failure, num_retries: 4, BACK_OFF, HOSTS}}}
- {match: {prefix: /others}, route: {cluster: others, retry_policy: {retry_on: 5xx, num_retries: 2, BACK_OFF, HOSTS}}}
- {match: {prefix: /host}, route: {cluster: there}}
"#;

const BACK_OFF: &str = "retry_back_off: {base_interval: 0.001s}";

const HOSTS: &str = "retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts, typed_config: \
                     {\"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], \
                     host_selection_retry_max_attempts: 20";

const HOST: &str = "include_request_attempt_count: true\n\
                    retry_policy: {retry_on: gateway-error, num_retries: 1, retry_back_off: {base_interval: 0.001s}}\n";

const CONNECTIONS: [&str; 7] = [
    "upstream_cx_total",
    "upstream_cx_connect_fail",
    "upstream_rq_total",
    "upstream_rq_retry",
    "upstream_rq_5xx",
    "upstream_rq_completed",
    "upstream_cx_active",
];

fn setup() -> Setup {
    let (a, b, c) = (serve("a"), serve("b"), serve("c"));
    Setup::of(
        table(HOST, &ROUTES.replace("BACK_OFF", BACK_OFF).replace("HOSTS", HOSTS)),
        vec![
            cluster("there", "", &[a]),
            cluster("refused", "", &[refusing()]),
            cluster("counted", "", &[a]),
            cluster("overloaded", "", &[a]),
            cluster("mixed", "", &[refusing(), refusing(), a]),
            cluster("others", "", &[a, b, c]),
        ],
    )
}

#[test]
fn retries() {
    let seen = compare("retries", BEHAVIOURS, setup, |proxy, seen| {
        conditions(proxy, seen);
        bodies(proxy, seen);
        places(proxy, seen);
        statistics(proxy, seen);
    });
    if let Some(seen) = seen {
        let third = seen
            .of("5xx twice, then well")
            .iter()
            .any(|l| l == "attempt 3: x-envoy-attempt-count: 3");
        assert!(third, "{seen:?}");
    }
}

fn conditions(proxy: &Proxy, seen: &mut Seen) {
    let mut ask = seen.asking(proxy);
    ask("5xx twice, then well", 200, get("/5xx").script("500;500;200"));
    ask("5xx for ever", 501, get("/5xx").script("501"));
    ask("5xx covers resets", 200, get("/5xx").script("close;200"));
    ask("5xx does not cover 429", 429, get("/5xx").script("429;200"));
    ask("gateway errors", 200, get("/gateway").script("502;503;200"));
    ask("500 is no gateway error", 500, get("/gateway").script("500;200"));
    ask("a reset", 200, get("/reset").script("close;200"));
    ask("reset does not cover 503", 503, get("/reset").script("503;200"));
    ask("resets for ever", 503, get("/reset").script("close"));
    ask("a reset after the request", 503, get("/before").script("close;200"));
    ask("nobody listens", 503, get("/connect"));
    ask("nobody listens, and nothing is retried", 503, get("/unconnected"));
    ask("409 is retriable", 200, get("/4xx").script("409;200"));
    ask("404 is not", 404, get("/4xx").script("404;200"));
    ask("status codes", 200, get("/codes").script("408;200"));
    ask("other status codes", 503, get("/codes").script("503;200"));
    ask(
        "a header of the answer",
        200,
        get("/headers").script("200 x-again=yes;500 x-again=yes;200"),
    );
    ask(
        "another value of the header",
        200,
        get("/headers").script("200 x-again=no;500"),
    );
    ask(
        "rate limited",
        200,
        get("/limited").script("429 x-envoy-ratelimited=true;200"),
    );
    ask(
        "rate limited without the condition",
        503,
        get("/5xx").script("503 x-envoy-ratelimited=true;200"),
    );
    let grpc = || get("/grpc").grpc();
    ask(
        "gRPC unavailable",
        200,
        grpc().script("200 content-type=application/grpc grpc-status=14;200 grpc-status=0"),
    );
    ask(
        "gRPC not found",
        200,
        grpc().script("200 content-type=application/grpc grpc-status=5;200 grpc-status=0"),
    );
    ask("no retries", 500, get("/none").script("500;200"));
    ask(
        "one retry unless a number is given",
        500,
        get("/once").script("500;500;200"),
    );
    ask("the virtual host's policy", 200, get("/host").script("503;200"));
    ask("a try that takes too long", 200, get("/try").script("silent;200"));
    ask("two tries that take too long", 504, get("/try").script("silent"));
}

fn bodies(proxy: &Proxy, seen: &mut Seen) {
    let mut ask = seen.asking(proxy);
    ask("a body again", 200, post("/5xx", "hello").script("503;200"));
    ask(
        "a body in chunks again",
        200,
        post("/5xx", "hello")
            .with("transfer-encoding", "chunked")
            .script("503;200"),
    );
    let large = "0123456789abcdef".repeat(3000);
    ask("a large body again", 200, post("/5xx", &large).script("503;200"));
    let larger = "0123456789abcdef".repeat(5000);
    ask("a body past the buffer", 503, post("/5xx", &larger).script("503;200"));
}

fn places(proxy: &Proxy, seen: &mut Seen) {
    // Which endpoint is the first is chance.
    let answers = (0..3).flat_map(|_| proxy.ask(&get("/mixed")).lines());
    seen.add("past endpoints that refuse", answers.collect());
    let others = get("/others").script("503");
    seen.ask(proxy, "another endpoint each time", 503, &others);
    let mut endpoints = others.endpoints();
    endpoints.sort();
    assert_eq!(endpoints, ["a", "b", "c"], "{}", proxy.name);
}

fn statistics(proxy: &Proxy, seen: &mut Seen) {
    seen.add(
        "statistics of refused connections",
        proxy.stats("cluster.refused", &CONNECTIONS),
    );
    for (name, path, cluster, script) in [
        ("statistics of a route", "/counted", "counted", "503"),
        (
            "an overloaded upstream",
            "/overloaded",
            "overloaded",
            "503 x-envoy-overloaded=true",
        ),
    ] {
        let ask = get(path).script(script);
        let mut lines = proxy.ask(&ask).lines();
        lines.extend(ask.attempts());
        lines.extend(proxy.stats(
            &format!("cluster.{cluster}"),
            &[
                "upstream_rq_retry",
                "upstream_rq_total",
                "upstream_rq_5xx",
                "upstream_rq_completed",
            ],
        ));
        lines.extend(proxy.stats("vhost.all.route.lab", &["upstream_rq"]));
        seen.add(name, lines);
    }
}
