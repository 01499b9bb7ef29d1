//! Cross-origin requests.

use crate::support::{Ask, Proxy, Seen, Setup, cluster, compare, get, method, serve, table};

pub(crate) const BEHAVIOURS: usize = 11;

const POLICY: &str = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy";

const FILTER: &str = "- {name: envoy.filters.http.cors, typed_config: {\"@type\": \
                      type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}\n";

fn route(path: &str, policy: &str) -> String {
    format!(
        "- {{match: {{prefix: {path}}}, route: {{cluster: there}}, typed_per_filter_config: \
         {{envoy.filters.http.cors: {{\"@type\": {POLICY}, {policy}}}}}}}\n"
    )
}

fn preflight(path: &str, origin: &str) -> Ask {
    let ask = method("OPTIONS", path).with("origin", origin);
    ask.with("access-control-request-method", "PUT")
}

#[test]
fn cors() {
    let setup = || {
        let full = "allow_origin_string_match: [{exact: \"https://a.test\"}, {safe_regex: {regex: \"https://[bc][.]test\"}}], \
                    allow_methods: \"GET,PUT\", allow_headers: x-one, expose_headers: x-two, max_age: \"600\", allow_credentials: true";
        let strict = "allow_origin_string_match: [{prefix: \"https://a\"}], forward_not_matching_preflights: false";
        Setup {
            filters: FILTER.to_owned(),
            table: table(
                "response_headers_to_add: [{header: {key: x-host, value: \"yes\"}}]\n",
                &[
                    route("/full", full),
                    route("/strict", strict),
                    route("/any", "allow_origin_string_match: [{exact: \"*\"}]"),
                ]
                .concat(),
            ),
            clusters: vec![cluster("there", "", &[serve("there")])],
            ..Setup::default()
        }
    };
    compare("cors", BEHAVIOURS, setup, |proxy, seen| {
        answers(proxy, seen);
        seen.add("statistics of cors", proxy.stats("http.front.cors", &[""]));
    });
}

fn answers(proxy: &Proxy, seen: &mut Seen) {
    let mut ask = seen.asking(proxy);
    ask("a preflight", 200, preflight("/full", "https://a.test"));
    ask("a preflight by regex", 200, preflight("/full", "https://c.test"));
    ask(
        "a preflight of another origin",
        200,
        preflight("/full", "https://evil.test"),
    );
    ask(
        "a preflight that is not passed on",
        200,
        preflight("/strict", "https://evil.test"),
    );
    ask(
        "OPTIONS that is no preflight",
        200,
        method("OPTIONS", "/full").with("origin", "https://a.test"),
    );
    ask(
        "a request of an origin",
        200,
        get("/full").with("origin", "https://b.test"),
    );
    ask(
        "a request of another origin",
        200,
        get("/full").with("origin", "https://evil.test"),
    );
    ask("a request without an origin", 200, get("/full"));
    ask("any origin", 200, get("/any").with("origin", "https://evil.test"));
    let own = get("/full").with("origin", "https://a.test");
    ask(
        "the upstream's own",
        200,
        own.script("200 access-control-allow-origin=x access-control-expose-headers=y"),
    );
}
