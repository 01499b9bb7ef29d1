//! Mirrored requests: what the copy looks like, and that the caller never waits for it.

use crate::support::{Ask, Proxy, Seen, Setup, cluster, compare, get, post, refusing, serve, table};

pub(crate) const BEHAVIOURS: usize = 7;

const ROUTES: &str = r#"
- {match: {prefix: /all}, route: {cluster: there, request_mirror_policies: [{cluster: shadow}]}}
- {match: {prefix: /none}, route: {cluster: there, request_mirror_policies: [{cluster: shadow, runtime_fraction: {default_value: {numerator: 0}}}]}}
- {match: {prefix: /two}, route: {cluster: there, request_mirror_policies: [{cluster: shadow}, {cluster: other, disable_shadow_host_suffix_append: true}]}}
- {match: {prefix: /refused}, route: {cluster: there, request_mirror_policies: [{cluster: refused}]}}
- {match: {prefix: /missing}, route: {cluster: there, prefix_rewrite: /changed, request_mirror_policies: [{cluster: shadow}]}}
"#;

#[test]
fn mirrors() {
    let setup = || {
        Setup::of(
            table("", ROUTES),
            vec![
                cluster("there", "", &[serve("there")]),
                cluster("shadow", "", &[serve("shadow")]),
                cluster("other", "", &[serve("other")]),
                cluster("refused", "", &[refusing()]),
            ],
        )
    };
    compare("mirrors", BEHAVIOURS, setup, |proxy, seen| {
        ask(proxy, seen, "mirrored", &get("/all?q=1").host("shop.test:8080"), 2);
        ask(proxy, seen, "mirrored with a body", &post("/all", "hello"), 2);
        ask(proxy, seen, "mirrored twice", &get("/two"), 3);
        ask(proxy, seen, "a mirror of a rewritten path", &get("/missing"), 2);
        ask(proxy, seen, "a mirror that refuses", &get("/refused"), 1);
        ask(proxy, seen, "never mirrored", &get("/none"), 1);
        seen.add(
            "statistics of mirrors",
            proxy.stats("cluster.shadow", &["upstream_rq_total", "upstream_rq_2xx"]),
        );
    });
}

fn ask(proxy: &Proxy, seen: &mut Seen, name: &str, ask: &Ask, copies: usize) {
    let answer = proxy.ask(ask);
    assert_eq!(answer.status, 200, "{}: {name}", proxy.name);
    ask.wait(copies);
    let mut lines = answer.lines();
    for endpoint in ["there", "shadow", "other"] {
        lines.extend(ask.attempts_at(endpoint));
    }
    seen.add(name, lines);
}
