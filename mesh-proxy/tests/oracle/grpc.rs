//! gRPC: what the proxy answers itself is an answer without body or trailers.

use crate::support::{Ask, Proxy, Seen, Setup, cluster, compare, get, post, refusing, serve, table};

pub(crate) const BEHAVIOURS: usize = 12;

const ROUTES: &str = r#"
- {match: {prefix: /there}, route: {cluster: there}}
- {match: {prefix: /refused}, route: {cluster: refused}}
- {match: {prefix: /nobody}, route: {cluster: nobody}}
- {match: {prefix: /slow}, route: {cluster: there, timeout: 0.3s}}
- {match: {prefix: /direct}, direct_response: {status: 403, body: {inline_string: "not 100% allowed é\n"}}}
- {match: {prefix: /moved}, redirect: {host_redirect: new.test}}
- {match: {prefix: /limited}, route: {cluster: limited}}
"#;

#[test]
fn grpc() {
    let setup = || {
        Setup::of(
            table("", ROUTES),
            vec![
                cluster("there", "", &[serve("there")]),
                cluster("refused", "", &[refusing()]),
                cluster("nobody", "", &[]),
                cluster(
                    "limited",
                    "circuit_breakers: {thresholds: [{max_requests: 0}]}",
                    &[serve("limited")],
                ),
            ],
        )
    };
    compare("grpc", BEHAVIOURS, setup, |proxy, seen| {
        answers(proxy, seen);
        seen.add(
            "statistics of gRPC",
            proxy.stats(
                "cluster.refused",
                &["upstream_rq_5xx", "upstream_rq_2xx", "upstream_rq_completed"],
            ),
        );
    });
}

fn answers(proxy: &Proxy, seen: &mut Seen) {
    let grpc = |path: &str| -> Ask { post(path, "").grpc().with("te", "trailers") };
    let mut ask = seen.asking(proxy);
    ask(
        "answered",
        200,
        grpc("/there").script("200 content-type=application/grpc grpc-status=5 grpc-message=gone"),
    );
    ask("answered with another status", 503, grpc("/there").script("503"));
    ask("refused", 200, grpc("/refused"));
    ask("reset", 200, grpc("/there").script("close"));
    ask("no endpoint", 200, grpc("/nobody"));
    ask("no route", 200, grpc("/lost"));
    ask("past the timeout", 200, grpc("/slow").script("silent"));
    ask("a direct response", 200, grpc("/direct"));
    ask("a redirect", 200, grpc("/moved"));
    ask("past a limit", 200, grpc("/limited"));
    ask(
        "another content type",
        503,
        get("/refused").with("content-type", "application/grpc-web"),
    );
}
