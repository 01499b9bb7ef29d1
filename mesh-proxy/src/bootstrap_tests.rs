use std::time::Duration;

use super::*;
use crate::shared::Shared;
use crate::snapshot::{Discovery, RouteAction, RouteSource, Terminal};

/// As people write it for a first look at Envoy: a bare router, a name to look up.
const FIRST: &str = r#"
admin:
  address:
    socket_address: { address: 127.0.0.1, port_value: 15000 }
static_resources:
  listeners:
  - name: demo
    address:
      socket_address: { address: 127.0.0.1, port_value: 0 }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          http_filters:
          - name: envoy.filters.http.router
          route_config:
            name: local
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route:
                  auto_host_rewrite: true
                  cluster: there
                  timeout: 1s
                  retry_policy: { retry_on: 5xx, num_retries: 3 }
  clusters:
  - name: there
    connect_timeout: 5s
    type: LOGICAL_DNS
    dns_lookup_family: V4_ONLY
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: anything
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: there.test, port_value: 8000 } } }
"#;

fn load(text: &str) -> (Option<crate::snapshot::Snapshot>, Vec<String>) {
    let mut bootstrap = parse(text).expect("a bootstrap");
    let mut builder = Builder::new(Shared::new(node(&bootstrap))).with_patience(Duration::ZERO);
    let mut refused = check_outline(&mut bootstrap);
    let (snapshot, more) = load_static(&mut bootstrap, &mut builder);
    refused.extend(more);
    (snapshot, refused.iter().map(ToString::to_string).collect())
}

#[test]
fn a_first_bootstrap_works() {
    let (snapshot, refused) = load(FIRST);
    assert_eq!(refused, [] as [String; 0]);
    let snapshot = snapshot.expect("static resources");
    let Terminal::Http(manager) = &snapshot.listeners["demo"].chains[0].terminal else {
        panic!("no HTTP")
    };
    let RouteSource::Inline(table) = &manager.routes else {
        panic!("no routes")
    };
    let RouteAction::Forward(forward) = &table.virtual_hosts[0].routes[0].action else {
        panic!("no forward")
    };
    assert_eq!(forward.timeout, Some(Duration::from_secs(1)));
    assert_eq!(forward.retry.as_ref().map(|r| r.num_retries), Some(3));
    let Discovery::LogicalDns(dns) = &snapshot.clusters["there"].discovery else {
        panic!("no DNS")
    };
    assert_eq!(
        (dns.targets[0].host.as_str(), dns.targets[0].port),
        ("there.test", 8000)
    );
}

#[test]
fn refusals_have_paths_from_the_top() {
    let text = FIRST
        .replace("num_retries: 3", "per_try_idle_timeout: 1s")
        .replace("V4_ONLY", "V4_ONLY\n    outlier_detection: {monitors: [{name: m}]}")
        + "overload_manager: {}\n";
    let (_, mut refused) = load(&text);
    refused.sort();
    assert_eq!(
        refused,
        [
            "overload_manager: not implemented",
            "static_resources.clusters[0].outlier_detection.monitors: not implemented",
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0]\
             .route.retry_policy.per_try_idle_timeout: not implemented",
        ]
    );
}

#[test]
fn names_occur_once_and_fields_are_known() {
    let twice = "static_resources: {clusters: [{name: a}, {name: a}]}";
    assert_eq!(
        load(twice).1,
        ["static_resources.clusters[1]: \"a\" is the name of clusters[0] already"]
    );
    let error = parse("static_resources: {listners: []}").expect_err("no such field");
    assert!(format!("{error:#}").contains("listners"), "{error:#}");
    assert!(parse("just text").is_err() && parse("a: [").is_err());
}

/// A mesh of ten thousand services, as one file, has far more nodes than a reader of strangers' YAML takes.
#[test]
fn ten_thousand_clusters_are_read() {
    use std::fmt::Write as _;
    let mut text = "static_resources:\n  clusters:\n".to_owned();
    for n in 0..10_000 {
        let _ = writeln!(
            text,
            "  - {{name: c-{n}, connect_timeout: 1s, type: STATIC, load_assignment: {{cluster_name: c-{n}, endpoints: [{{lb_endpoints: \
             [{{endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: 80}}}}}}}}]}}]}}}}"
        );
    }
    let (snapshot, refused) = load(&text);
    assert_eq!(refused, [] as [String; 0]);
    let clusters = snapshot.expect("static resources").clusters;
    assert_eq!(clusters.len(), 10_000);
    assert_eq!(clusters["c-9999"].endpoints.len(), 1);
}
