//! What an edge makes of addresses, paths and headers that callers may not set.

use crate::support::{Setup, cluster, compare, get, serve, table};

pub(crate) const BEHAVIOURS: usize = 9;

const MANAGER: &str = "use_remote_address: true\nnormalize_path: true\nmerge_slashes: true\n\
                       path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT\nstrip_any_host_port: true\n\
                       server_name: shop\nserver_header_transformation: APPEND_IF_ABSENT\n";

#[test]
fn edge() {
    let setup = || Setup {
        manager: MANAGER.to_owned(),
        table: table("", "- {match: {prefix: /}, route: {cluster: there}}\n"),
        clusters: vec![cluster("there", "", &[serve("there")])],
        ..Setup::default()
    };
    compare("edge", BEHAVIOURS, setup, |proxy, seen| {
        let mut ask = seen.asking(proxy);
        ask("a caller's address", 200, get("/"));
        ask(
            "addresses before it",
            200,
            get("/").with("x-forwarded-for", "8.8.8.8, 9.9.9.9"),
        );
        ask(
            "a scheme of the caller's",
            200,
            get("/").with("x-forwarded-proto", "https"),
        );
        ask("many slashes", 200, get("//a///b/../c"));
        ask("escaped slashes", 307, get("/a%2Fb%5cc?d=%2F"));
        ask("a host with a port", 200, get("/").host("shop.test:8080"));
        ask("the upstream's server", 200, get("/").script("200 server=own"));
        let steering = get("/")
            .with("x-envoy-retry-on", "5xx")
            .with("x-envoy-max-retries", "3");
        ask(
            "a caller that would steer",
            503,
            steering.with("x-envoy-upstream-rq-timeout-ms", "1").script("503"),
        );
        let told = get("/").with("x-envoy-original-path", "/x");
        ask(
            "a caller that pretends to be a proxy",
            200,
            told.with("x-envoy-decorator-operation", "op"),
        );
    });
}
