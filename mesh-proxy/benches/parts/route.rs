//! Which route takes a request.

use std::fmt::Write as _;
use std::sync::Arc;

use divan::Bencher;
use http::{HeaderMap, HeaderValue};
use mesh_proxy::http::parts;
use mesh_proxy::snapshot::{RouteSource, RouteTable, Terminal};

#[divan::bench(args = [1, 1000])]
fn by_host(bencher: Bencher<'_, '_>, hosts: usize) {
    let mut text = String::new();
    for n in 0..hosts {
        let _ = writeln!(
            text,
            "            - {{name: h-{n}, domains: [svc-{n}.bench.svc.cluster.local, \"svc-{n}.bench.svc.cluster.local:80\"], \
             routes: [{{match: {{prefix: /}}, route: {{cluster: c-0}}}}]}}"
        );
    }
    let table = table(&text);
    let asked = format!("svc-{}.bench.svc.cluster.local", hosts / 2);
    find(bencher, &table, &asked, "/");
}

#[divan::bench]
fn by_a_domains_end(bencher: Bencher<'_, '_>) {
    let table = table(
        "            - {name: h, domains: [\"*.test\"], routes: [{match: {prefix: /}, route: {cluster: c-0}}]}\n",
    );
    find(bencher, &table, "a.b.test", "/");
}

#[divan::bench(args = [1, 50])]
fn by_path(bencher: Bencher<'_, '_>, routes: usize) {
    let all: Vec<String> = (0..routes)
        .map(|n| format!("{{match: {{path_separated_prefix: /api/{n}}}, route: {{cluster: c-0}}}}"))
        .collect();
    let table = table(&format!(
        "            - {{name: h, domains: [\"*\"], routes: [{}]}}\n",
        all.join(", ")
    ));
    find(bencher, &table, "h", &format!("/api/{}/items", routes - 1));
}

#[divan::bench]
fn by_a_header(bencher: Bencher<'_, '_>) {
    let table = table(
        "            - {name: h, domains: [\"*\"], routes: [{match: {prefix: /, headers: [{name: x-user, string_match: {exact: \
         jason}}]}, route: {cluster: c-0}}]}\n",
    );
    find(bencher, &table, "h", "/");
}

fn find(bencher: Bencher<'_, '_>, table: &RouteTable, authority: &str, path: &str) {
    let mut headers = crate::headers::usual();
    headers.insert("x-user", HeaderValue::from_static("jason"));
    let one = |headers: &HeaderMap| parts::find_route(table, authority, path, headers).is_some();
    assert!(one(&headers), "no route");
    bencher.bench(|| one(divan::black_box(&headers)));
}

/// A table with these virtual hosts.
fn table(hosts: &str) -> Arc<RouteTable> {
    let text = format!(
        r#"{clusters}
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            name: all
            virtual_hosts:
{hosts}"#,
        clusters = crate::clusters(1, 1, "ROUND_ROBIN"),
    );
    let (_, snapshot) = crate::load(&text);
    let Terminal::Http(manager) = &snapshot.listeners["front"].chains[0].terminal else {
        panic!("no HTTP");
    };
    match &manager.routes {
        RouteSource::Inline(table) => table.clone(),
        RouteSource::Rds(_) => panic!("routes are inline"),
    }
}
