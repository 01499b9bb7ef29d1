//! Which route a request takes.

use crate::support::{Setup, cluster, compare, get, method, serve};

pub(crate) const BEHAVIOURS: usize = 42;

const TABLE: &str = r#"
response_headers_to_add: [{header: {key: x-shop, value: "yes"}}]
virtual_hosts:
- name: moved
  domains: [old.test, "*.old.test"]
  routes:
  - {match: {prefix: /}, redirect: {host_redirect: new.test, path_redirect: /here, response_code: FOUND}}
- name: prefixed
  domains: ["pre.*"]
  routes:
  - {match: {prefix: /}, direct_response: {status: 200, body: {inline_string: a host by its prefix}}}
- name: shop
  domains: ["*"]
  routes:
  - {match: {path: /exact}, direct_response: {status: 418, body: {inline_string: tea}}}
  - {match: {path: /IgnoreCase, case_sensitive: false}, direct_response: {status: 200, body: {inline_string: any case}}}
  - {match: {prefix: /Ignored/, case_sensitive: false}, direct_response: {status: 200, body: {inline_string: any case before}}}
  - {match: {path_separated_prefix: /apart}, direct_response: {status: 200, body: {inline_string: a whole part}}}
  - {match: {safe_regex: {regex: "/items/[0-9]+"}}, route: {cluster: there, host_rewrite_literal: items.test}}
  - {match: {safe_regex: {regex: "(?i)/any/CASE"}}, direct_response: {status: 200, body: {inline_string: any case by regex}}}
  - {match: {prefix: /never, runtime_fraction: {default_value: {numerator: 0}}}, direct_response: {status: 200}}
  - {match: {prefix: /never, runtime_fraction: {default_value: {numerator: 100}}}, direct_response: {status: 202}}
  - {match: {prefix: /grpc, grpc: {}}, direct_response: {status: 503}}
  - {match: {prefix: /grpc}, direct_response: {status: 202}}
  - match: {prefix: /by, headers: [{name: x-kind, string_match: {exact: gold}}]}
    route: {cluster: there, prefix_rewrite: /gold}
    response_headers_to_add: [{header: {key: x-route, value: gold}}]
  - {match: {prefix: /by, query_parameters: [{name: v, string_match: {exact: "2"}}]}, route: {cluster: there, prefix_rewrite: /two}}
  - {match: {prefix: /by, headers: [{name: ":method", string_match: {exact: DELETE}}]}, direct_response: {status: 405}}
  - {match: {prefix: /by, headers: [{name: ":authority", string_match: {suffix: ".special.test"}}]}, direct_response: {status: 210}}
  - {match: {prefix: /by, query_parameters: [{name: here, present_match: true}]}, direct_response: {status: 211}}
  - {match: {prefix: /by, query_parameters: [{name: r, string_match: {safe_regex: {regex: "a+"}}}]}, direct_response: {status: 212}}
  - {match: {prefix: /by, headers: [{name: x-many, string_match: {exact: "b"}}]}, direct_response: {status: 213}}
  - {match: {prefix: /by, headers: [{name: x-tone, string_match: {prefix: LOUD, ignore_case: true}}, {name: x-more, string_match: {contains: in}}]}, direct_response: {status: 214}}
  - {match: {prefix: /by, headers: [{name: x-number, range_match: {start: 5, end: 10}}]}, direct_response: {status: 215}}
  - {match: {prefix: /by, headers: [{name: x-match, string_match: {safe_regex: {regex: "v[0-9]"}}}]}, direct_response: {status: 216}}
  - {match: {prefix: /without, headers: [{name: x-user, string_match: {exact: eve}, invert_match: true}]}, direct_response: {status: 217}}
  - {match: {prefix: /without, headers: [{name: x-admin, present_match: true}]}, direct_response: {status: 218}}
  - {match: {prefix: /other, headers: [{name: x-many, string_match: {exact: "c"}, invert_match: true}]}, direct_response: {status: 223}}
  - {match: {prefix: /other}, direct_response: {status: 224}}
  - {match: {prefix: /without}, direct_response: {status: 219}}
  - {match: {prefix: /lacks, headers: [{name: x-user, present_match: true, invert_match: true}]}, direct_response: {status: 220}}
  - {match: {prefix: /lacks, headers: [{name: x-user, string_match: {exact: ""}, treat_missing_header_as_empty: true}]}, direct_response: {status: 221}}
  - {match: {prefix: /lacks}, direct_response: {status: 222}}
  - {match: {prefix: /gone404}, route: {cluster: gone, cluster_not_found_response_code: NOT_FOUND}}
  - {match: {prefix: /gone}, route: {cluster: gone}}
  - {match: {prefix: /chosen}, route: {cluster_header: x-cluster}}
  - {match: {prefix: /nobody}, route: {cluster: nobody}}
  - {match: {prefix: /by}, route: {cluster: there}}
"#;

#[test]
fn routing() {
    let setup = || Setup {
        manager: "normalize_path: true\n".to_owned(),
        table: format!("{TABLE}validate_clusters: false\n"),
        clusters: vec![cluster("there", "", &[serve("there")]), cluster("nobody", "", &[])],
        ..Setup::default()
    };
    compare("routing", BEHAVIOURS, setup, |proxy, seen| {
        let mut ask = seen.asking(proxy);
        ask("an exact path", 418, get("/exact"));
        ask("an exact path with a query", 418, get("/exact?query=1"));
        ask("an exact path in another case", 404, get("/Exact"));
        ask("ignoring case, exact", 200, get("/ignorecasE"));
        ask("ignoring case, prefix", 200, get("/iGNORED/Path"));
        ask("a separated prefix", 200, get("/apart/more"));
        ask("a separated prefix in a longer word", 404, get("/aparthotel"));
        ask("a regex", 200, get("/items/12").host("shop.test:8080"));
        ask("a regex matches the whole path", 404, get("/items/12/more"));
        ask("a regex that ignores case", 200, get("/ANY/case"));
        ask("a host", 302, get("/a?b=c").host("old.test"));
        ask("a host by its suffix", 302, get("/").host("deep.old.test"));
        ask("a host by its prefix", 200, get("/").host("pre.test"));
        ask("a host in capitals", 302, get("/").host("OLD.test"));
        ask("shares of 0 and 100", 202, get("/never"));
        ask("gRPC", 200, get("/grpc").with("content-type", "application/grpc+proto"));
        ask("no gRPC", 202, get("/grpc").with("content-type", "application/grpcweb"));
        ask("a header", 200, get("/by/path").with("x-kind", "gold"));
        ask("a query parameter", 200, get("/by/path?v=2"));
        ask("the first of equal query parameters", 200, get("/by/path?v=3&v=2"));
        ask(
            "no match but the last",
            200,
            get("/by/path?v=3").with("x-kind", "silver"),
        );
        ask("a method", 405, method("DELETE", "/by"));
        ask("an authority", 210, get("/by").host("very.special.test"));
        ask("a query parameter that is there", 211, get("/by?a=b&here"));
        ask("a query parameter by regex", 212, get("/by?r=aaa"));
        ask(
            "a header given twice",
            213,
            get("/by").with("x-many", "a").with("x-many", "b"),
        );
        let twice = |one, two| get("/other").with("x-many", one).with("x-many", two);
        ask("an inverted header given twice, one matches", 224, twice("d", "c"));
        ask("an inverted header given twice", 223, twice("a", "b"));
        let tone = |more| get("/by").with("x-tone", "loudly").with("x-more", more);
        ask("two headers", 214, tone("within"));
        ask("one header of two", 200, tone("without it"));
        ask("a header's range", 215, get("/by").with("x-number", "9"));
        ask("the end of a header's range", 200, get("/by").with("x-number", "10"));
        ask("a header by regex", 216, get("/by").with("x-match", "v1"));
        ask(
            "an inverted header that differs",
            217,
            get("/without").with("x-user", "ada"),
        );
        // In Envoy a value that is not there matches no condition on it, inverted or not.
        ask("an inverted header that is missing", 219, get("/without"));
        ask("a header that must be missing", 220, get("/lacks"));
        ask("a normalised path", 200, get("/a/../by/./x"));
        ask("HEAD", 200, method("HEAD", "/by/head"));
        ask("no cluster of that name", 503, get("/gone"));
        ask("no cluster of that name, told so", 404, get("/gone404"));
        ask("a cluster by header", 200, get("/chosen").with("x-cluster", "there"));
        ask("no endpoints", 503, get("/nobody"));
    });
}
