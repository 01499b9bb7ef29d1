//! Rewrites, redirects and direct responses.

use crate::support::{Setup, cluster, compare, get, method, serve, table};

pub(crate) const BEHAVIOURS: usize = 23;

const ROUTES: &str = r#"
- {match: {prefix: /api/v1/}, route: {cluster: there, prefix_rewrite: /}}
- {match: {prefix: /api}, route: {cluster: there, prefix_rewrite: /}}
- {match: {path: /whole}, route: {cluster: there, prefix_rewrite: /other}}
- {match: {prefix: /Fold, case_sensitive: false}, route: {cluster: there, prefix_rewrite: /new}}
- match: {prefix: /regex}
  route: {cluster: there, regex_rewrite: {pattern: {regex: "/regex/([^/]+)/([^/]+)"}, substitution: '/\2/with/\1'}}
- match: {prefix: /every}
  route: {cluster: there, regex_rewrite: {pattern: {regex: "e"}, substitution: "E"}}
- {match: {prefix: /auto}, route: {cluster: named, auto_host_rewrite: true}}
- match: {prefix: /both}
  route: {cluster: there, prefix_rewrite: /, host_rewrite_literal: other.test}
  request_headers_to_add: [{header: {key: x-path, value: "%REQ(:path)% %REQ(x-envoy-original-path?:path)%"}}]
- {match: {prefix: /r/host}, redirect: {host_redirect: new.test}}
- {match: {prefix: /r/port}, redirect: {port_redirect: 8443}}
- {match: {prefix: /r/https}, redirect: {https_redirect: true}}
- {match: {prefix: /r/scheme}, redirect: {scheme_redirect: ftp, port_redirect: 21}}
- {match: {prefix: /r/prefix}, redirect: {prefix_rewrite: /p, response_code: TEMPORARY_REDIRECT}}
- {match: {prefix: /r/path}, redirect: {path_redirect: /elsewhere, response_code: PERMANENT_REDIRECT}}
- {match: {prefix: /r/query}, redirect: {path_redirect: "/elsewhere?mine=1", response_code: SEE_OTHER}}
- {match: {prefix: /r/strip}, redirect: {host_redirect: new.test, strip_query: true}}
- match: {prefix: /r/regex}
  redirect: {regex_rewrite: {pattern: {regex: "^/r/regex/(.*)$"}, substitution: '/got/\1'}}
  response_headers_to_add: [{header: {key: x-how, value: "%PROTOCOL%"}}]
- match: {prefix: /direct}
  direct_response: {status: 503, body: {inline_string: "busy"}}
  response_headers_to_add: [{header: {key: content-type, value: text/html}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
- {match: {prefix: /empty}, direct_response: {status: 204}}
"#;

#[test]
fn rewrites_and_redirects() {
    let setup = || {
        Setup::of(
            table("", ROUTES),
            vec![
                cluster("there", "", &[serve("there")]),
                cluster("named", "", &[serve("named")]).replace("{endpoint: {", "{endpoint: {hostname: named.test, "),
            ],
        )
    };
    compare("rewrites", BEHAVIOURS, setup, |proxy, seen| {
        let mut ask = seen.asking(proxy);
        ask("a prefix that ends in a slash", 200, get("/api/v1/users?id=1"));
        ask("a prefix within a word", 200, get("/apiary"));
        ask("a prefix that is all of the path", 200, get("/api"));
        ask("an exact path", 200, get("/whole?x=y"));
        ask("a prefix in another case", 200, get("/fOLD/Rest"));
        ask("a regex with groups", 200, get("/regex/one/two?three"));
        ask("a regex that matches nothing", 200, get("/regex/one"));
        ask("a regex at every place", 200, get("/every/else?e=e"));
        ask("the host of the endpoint", 200, get("/auto"));
        ask("path and host", 200, get("/both/ways"));
        ask("redirected to a host", 301, get("/r/host/a?b=c"));
        ask("redirected to a port", 301, get("/r/port/a").host("shop.test:80"));
        ask("redirected to https", 301, get("/r/https").host("shop.test:80"));
        ask(
            "redirected to https from another port",
            301,
            get("/r/https").host("shop.test:8080"),
        );
        ask("redirected to a scheme", 301, get("/r/scheme"));
        ask("redirected by prefix", 307, get("/r/prefix/a?b=c"));
        ask("redirected to a path", 308, get("/r/path/a?b=c"));
        ask("redirected to a path with a query", 303, get("/r/query/a?b=c"));
        ask("redirected without the query", 301, get("/r/strip/a?b=c"));
        ask("redirected by regex", 301, get("/r/regex/a/b?c"));
        ask("a direct response", 503, get("/direct"));
        ask("a direct response to HEAD", 503, method("HEAD", "/direct"));
        ask("an empty direct response", 204, get("/empty"));
    });
}
