//! Callers that speak HTTP/2.

use crate::support::{Setup, cluster, compare, get, method, post, refusing, serve, table};

pub(crate) const BEHAVIOURS: usize = 9;

const ROUTES: &str = r#"
- {match: {prefix: /there}, route: {cluster: there, retry_policy: {retry_on: 5xx, num_retries: 1}}}
- {match: {prefix: /refused}, route: {cluster: refused}}
- {match: {prefix: /moved}, redirect: {https_redirect: true}}
- {match: {prefix: /direct}, direct_response: {status: 200, body: {inline_string: hello}}}
"#;

#[test]
fn http2() {
    let setup = || {
        Setup::of(
            table("", ROUTES),
            vec![
                cluster("there", "", &[serve("there")]),
                cluster("refused", "", &[refusing()]),
            ],
        )
    };
    compare("http2", BEHAVIOURS, setup, |proxy, seen| {
        for (name, ask) in [
            ("GET", get("/there?q=1").with("x-user", "ada")),
            ("HEAD", method("HEAD", "/there")),
            ("a body, retried", post("/there", "hello").script("503;200")),
            ("cookies", get("/there").with("cookie", "a=1").with("cookie", "b=2")),
            ("refused", get("/refused")),
            ("a redirect", get("/moved")),
            ("a direct response", get("/direct")),
            ("no route", get("/lost")),
            ("gRPC refused", post("/refused", "").grpc().with("te", "trailers")),
        ] {
            let mut lines = proxy.ask_http2(&ask).lines();
            lines.extend(ask.attempts());
            seen.add(name, lines);
        }
    });
}
