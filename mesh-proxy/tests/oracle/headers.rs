//! Operations on headers: the route's, the virtual host's, the table's, and those of the filter for them.

use crate::support::{Setup, cluster, compare, get, serve, table};

pub(crate) const BEHAVIOURS: usize = 10;

const ROUTES: &str = r#"
- match: {prefix: /changed}
  route: {cluster: there}
  request_headers_to_add: [{header: {key: x-added, value: new}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
  request_headers_to_remove: [x-secret]
  response_headers_to_remove: [x-gone]
- match: {prefix: /actions}
  route: {cluster: there}
  request_headers_to_add:
  - {header: {key: x-append, value: new}}
  - {header: {key: x-absent, value: new}, append_action: ADD_IF_ABSENT}
  - {header: {key: x-exists, value: new}, append_action: OVERWRITE_IF_EXISTS}
  - {header: {key: x-kept, value: ""}, keep_empty_value: true}
  - {header: {key: x-left, value: ""}}
  response_headers_to_add:
  - {header: {key: x-append, value: new}}
  - {header: {key: x-absent, value: new}, append_action: ADD_IF_ABSENT}
  - {header: {key: x-exists, value: new}, append_action: OVERWRITE_IF_EXISTS}
- match: {prefix: /operators}
  route: {cluster: there}
  request_headers_to_add:
  - {header: {key: x-copy, value: "100%% %REQ(x-user)% %PROTOCOL%"}}
  - {header: {key: x-nothing, value: "%REQ(x-absent)%"}}
  - {header: {key: x-from, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}
  - {header: {key: x-host, value: "%REQ(:authority)% %REQ(:method)% %REQ(:path):4%"}}
  response_headers_to_add:
  - {header: {key: x-user, value: "%REQ(x-user)%"}}
  - {header: {key: x-length, value: "%RESP(content-length)%"}}
  - {header: {key: x-nothing, value: "%REQ(x-absent)%"}}
  - {header: {key: x-code, value: "%RESPONSE_CODE% %RESPONSE_FLAGS%"}}
  - {header: {key: x-name, value: "%ROUTE_NAME% %UPSTREAM_CLUSTER%"}}
  name: named
  typed_per_filter_config: BY_ROUTE
- match: {prefix: /direct}
  direct_response: {status: 200}
  response_headers_to_add: [{header: {key: x-level, value: route}}]
  typed_per_filter_config: BY_ROUTE
- match: {prefix: /weighted}
  route:
    weighted_clusters:
      clusters:
      - name: there
        weight: 1
        request_headers_to_add: [{header: {key: x-level, value: destination}}]
        response_headers_to_add: [{header: {key: x-level, value: destination}}]
        response_headers_to_remove: [x-gone]
  request_headers_to_add: [{header: {key: x-level, value: route}}]
  response_headers_to_add: [{header: {key: x-level, value: route}}]
- {match: {prefix: /}, route: {cluster: there}}
"#;

const BY_ROUTE: &str = r#"{envoy.filters.http.header_mutation: {"@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute, mutations: {response_mutations: [{append: {header: {key: x-by, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}]}}}"#;

const HOST: &str = r#"
request_headers_to_add: [{header: {key: x-level, value: host}}]
response_headers_to_add: [{header: {key: x-level, value: host}}]
include_request_attempt_count: true
"#;

const TABLE: &str = r#"
request_headers_to_add: [{header: {key: x-level, value: table}}]
response_headers_to_add: [{header: {key: x-level, value: table}}]
request_headers_to_remove: [x-table]
"#;

const FILTER: &str = r#"
- name: envoy.filters.http.header_mutation
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
    mutations:
      request_mutations: [{remove: x-mutated}, {append: {header: {key: x-by, value: filter}}}]
      response_mutations: [{append: {header: {key: x-by, value: filter}}}]
"#;

#[test]
fn header_operations() {
    let setup = || Setup {
        filters: FILTER.to_owned(),
        table: table(HOST, &ROUTES.replace("BY_ROUTE", BY_ROUTE)) + TABLE,
        clusters: vec![cluster("there", "", &[serve("there")])],
        ..Setup::default()
    };
    compare("headers", BEHAVIOURS, setup, |proxy, seen| {
        let mut ask = seen.asking(proxy);
        let changed = get("/changed").with("x-secret", "s").with("x-added", "old");
        ask(
            "overwritten and removed",
            200,
            changed.with("x-table", "t").script("200 x-gone=here"),
        );
        let actions = get("/actions")
            .with("x-append", "old")
            .with("x-absent", "old")
            .with("x-exists", "old");
        let script = "200 x-append=old x-absent=old x-exists=old";
        ask("actions on headers that are there", 200, actions.script(script));
        ask("actions on headers that are not", 200, get("/actions"));
        ask(
            "operators",
            200,
            get("/operators").with("x-user", "ada").with("x-mutated", "1"),
        );
        ask("operators without what they name", 200, get("/operators"));
        ask(
            "levels of a weighted destination",
            200,
            get("/weighted").script("200 x-gone=here"),
        );
        ask("a direct response", 200, get("/direct"));
        ask("levels of a route", 200, get("/"));
        let hop = get("/")
            .with("connection", "close, x-hop")
            .with("x-hop", "1")
            .with("te", "gzip");
        ask(
            "hop-by-hop headers",
            200,
            hop.with("keep-alive", "5").with("proxy-connection", "close"),
        );
        ask(
            "hop-by-hop headers of the answer",
            200,
            get("/").script("200 keep-alive=5 proxy-connection=close"),
        );
    });
}
