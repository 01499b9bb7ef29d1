//! Consistent hashing: cookies, and the same endpoint as Envoy for the same request.

use crate::support::{Setup, cluster, cluster_of, compare, endpoints, get, table};

pub(crate) const BEHAVIOURS: usize = 10;

const ROUTES: &str = r#"
- {match: {prefix: /cookie}, route: {cluster: ring, hash_policy: [{cookie: {name: user, ttl: 60s, path: /, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}]}}
- {match: {prefix: /no-cookie}, route: {cluster: plain, hash_policy: [{cookie: {name: user, ttl: 60s}}]}}
- {match: {prefix: /ring}, route: {cluster: ring, hash_policy: [{header: {header_name: x-user}}]}}
- {match: {prefix: /maglev}, route: {cluster: maglev, hash_policy: [{header: {header_name: x-user}}]}}
- {match: {prefix: /weighted}, route: {cluster: weighted, hash_policy: [{header: {header_name: x-user}}]}}
- {match: {prefix: /query}, route: {cluster: ring, hash_policy: [{query_parameter: {name: user}}]}}
- {match: {prefix: /source}, route: {cluster: ring, hash_policy: [{connection_properties: {source_ip: true}}]}}
- {match: {prefix: /several}, route: {cluster: maglev, hash_policy: [{header: {header_name: x-first}, terminal: true}, {header: {header_name: x-user}}, {query_parameter: {name: user}}]}}
"#;

#[test]
fn stickiness() {
    // The addresses are what is hashed: both proxies have the same ones.
    let all = endpoints(5);
    let setup = || {
        Setup::of(
            table("", ROUTES),
            vec![
                cluster("ring", "lb_policy: RING_HASH", &all),
                cluster("maglev", "lb_policy: MAGLEV", &all),
                cluster_of(
                    "weighted",
                    "lb_policy: MAGLEV",
                    &[(
                        "",
                        &[
                            (all[0], "load_balancing_weight: 1"),
                            (all[1], "load_balancing_weight: 3"),
                            (all[2], "load_balancing_weight: 2"),
                        ],
                    )],
                ),
                cluster("plain", "", &all),
            ],
        )
    };
    compare("stickiness", BEHAVIOURS, setup, |proxy, seen| {
        let cookie = proxy.ask(&get("/cookie"));
        let set = cookie.header("set-cookie").unwrap_or_default();
        let (before, value) = set.split_once("user=\"").unwrap_or((set, ""));
        let after = value.split_once('"').map_or("none", |(_, after)| after);
        seen.add("a new cookie", vec![format!("{before}{after}")]);
        // What the proxy gave leads to the same endpoint.
        let pair = set.split(';').next().unwrap_or_default();
        let again = proxy.ask(&get("/cookie").with("cookie", pair));
        assert_eq!(
            again.header("x-endpoint"),
            cookie.header("x-endpoint"),
            "{}",
            proxy.name
        );
        seen.ask(
            proxy,
            "a known cookie",
            200,
            &get("/cookie").with("cookie", "a=b; user=\"1\""),
        );
        seen.ask(proxy, "a hash that nobody asks for", 200, &get("/no-cookie"));
        let users = || (0..24).map(|i| format!("user-{i}"));
        let endpoint = |ask| {
            let answer = proxy.ask(&ask);
            answer.header("x-endpoint").unwrap_or_default().to_owned()
        };
        for path in ["ring", "maglev", "weighted", "query", "several"] {
            let of = |user: String| {
                let ask = get(&format!("/{path}?user={user}"));
                let ask = if path == "query" {
                    ask
                } else {
                    ask.with("x-user", &user)
                };
                format!("{user} {}", endpoint(ask))
            };
            let found: Vec<_> = users().map(of).collect();
            let of_a = found.iter().filter(|f| f.ends_with(" a")).count();
            assert!(of_a < found.len(), "{}: {path} spreads: {found:?}", proxy.name);
            seen.add(&format!("the endpoint by {path}"), found);
        }
        let first = get("/several?user=x").with("x-first", "1").with("x-user", "2");
        seen.add("a policy that ends the list", vec![endpoint(first)]);
        seen.add("the endpoint by source", vec![endpoint(get("/source"))]);
    });
}
