//! Operations on headers.

use divan::Bencher;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_proxy::http::parts;
use mesh_proxy::snapshot::{AppendAction, HeaderAdd, HeaderOps};

/// As a browser sends them, more or less.
pub(crate) fn usual() -> HeaderMap {
    [
        ("host", "svc-500.bench.svc.cluster.local"),
        ("user-agent", "bench/1.0"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate"),
        ("x-request-id", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
        ("x-forwarded-proto", "http"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect()
}

#[divan::bench]
fn strip_hop_by_hop(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(usual).bench_refs(parts::strip_hop_by_hop);
}

#[divan::bench]
fn strip_what_connection_names(bencher: Bencher<'_, '_>) {
    let with_connection = || {
        let mut headers = usual();
        headers.insert("connection", HeaderValue::from_static("keep-alive, x-hop"));
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers
    };
    bencher.with_inputs(with_connection).bench_refs(parts::strip_hop_by_hop);
}

#[divan::bench]
fn apply_a_routes_operations(bencher: Bencher<'_, '_>) {
    let add = |name, action| HeaderAdd {
        name: HeaderName::from_static(name),
        value: HeaderValue::from_static("value"),
        operators: None,
        action,
    };
    let operations = HeaderOps {
        add: vec![
            add("x-appended", AppendAction::Append),
            add("accept", AppendAction::Overwrite),
            add("x-absent", AppendAction::AddIfAbsent),
        ],
        remove: vec![HeaderName::from_static("traceparent")],
        has_operators: false,
    };
    bencher
        .with_inputs(usual)
        .bench_refs(|headers| parts::apply(&operations, headers));
}
