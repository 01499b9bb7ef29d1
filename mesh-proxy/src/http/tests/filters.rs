//! Filters and header operations that act by what a route says.

use http::{Response, Version};
use serde_json::{Value, json};

use super::harness::*;

fn add(name: &str, value: &str) -> Value {
    json!({"header": {"key": name, "value": value}})
}

fn filters(more: &[Value]) -> Value {
    let mut all = more.to_vec();
    all.push(json!({"name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}));
    json!({"http_filters": all})
}

#[tokio::test]
async fn operators_in_headers_are_evaluated() {
    let origin = Origin::echo().await;
    let routes = json!([{"match": {"prefix": "/direct"}, "direct_response": {"status": 200},
        "response_headers_to_add": [add("x-path", "%REQ(:PATH)%")]},
    {"match": {"prefix": "/"}, "route": {"cluster": "up"},
    "request_headers_to_add": [
        add("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        add("x-copy", "100%% %REQ(x-user)% at %PROTOCOL%"),
        add("x-nothing", "%REQ(x-absent)%"),
    ],
    "response_headers_to_add": [
        add("x-user", "%REQ(x-user)%"),
        add("x-code", "%RESPONSE_CODE_DETAILS%"),
        add("x-length", "%RESP(content-length)%"),
    ]}]);
    let mesh = Mesh::start(
        routes,
        vec![cluster("up", &[origin.address], json!({}))],
        Options::default(),
    )
    .await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = Client::connect(mesh.address, version).await;
        let mut request = get("/");
        request.headers_mut().insert("x-user", "ada".parse().expect("a value"));
        let seen = client.seen(request).await;
        assert_eq!(seen.echoed("x-from"), "127.0.0.1");
        let protocol = if version == Version::HTTP_2 {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        };
        assert_eq!(seen.echoed("x-copy"), format!("100% ada at {protocol}"));
        assert_eq!(seen.echoed("x-nothing"), "-", "what comes out empty is left out");
        assert_eq!(seen.header("x-user"), "ada");
        assert_eq!(seen.header("x-length"), seen.body.len().to_string());
        assert_eq!(client.get("/direct?a=b").await.header("x-path"), "/direct?a=b");
    }
}

fn limited(tokens: u32, enforced: u32) -> Value {
    let all = |share: u32| json!({"default_value": {"numerator": share, "denominator": "HUNDRED"}});
    json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "lab",
        "token_bucket": {"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "3600s"},
        "filter_enabled": all(100), "filter_enforced": all(enforced),
        "response_headers_to_add": [add("x-local-rate-limit", "true")]})
}

#[tokio::test]
async fn requests_past_a_local_rate_limit_are_refused() {
    let origin = Origin::named("up").await;
    let name = "envoy.filters.http.local_ratelimit";
    let routes = json!([
        {"match": {"prefix": "/own"}, "route": {"cluster": "up"}, "typed_per_filter_config": {name: limited(1, 100)}},
        {"match": {"prefix": "/watched"}, "route": {"cluster": "up"}, "typed_per_filter_config": {name: limited(1, 0)}},
        {"match": {"prefix": "/"}, "route": {"cluster": "up"}}]);
    let options = Options {
        manager: filters(&[json!({"name": name, "typed_config": limited(2, 100)})]),
        ..Options::default()
    };
    let mesh = Mesh::start(routes, vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let mut statuses = Vec::new();
    for path in ["/", "/", "/", "/own", "/own", "/watched", "/watched"] {
        statuses.push(client.get(path).await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 200, 429, 200, 200]);
    let refused = client.get("/").await;
    assert_eq!((refused.status, refused.body.as_str()), (429, "local_rate_limited"));
    assert_eq!(refused.header("x-local-rate-limit"), "true");
    let counted = |what: &str| mesh.proxy.counter(&format!("lab.http_local_rate_limit.{what}"));
    assert_eq!(
        [
            counted("enabled"),
            counted("ok"),
            counted("rate_limited"),
            counted("enforced")
        ],
        [8, 4, 4, 3]
    );
}

#[tokio::test]
async fn headers_are_mutated_by_filter_and_by_route() {
    let origin = Origin::echo().await;
    let name = "envoy.filters.http.header_mutation";
    let kind = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3";
    let append = |key: &str, value: &str| {
        json!({"append": {"header": {"key": key, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}})
    };
    let routes = json!([
        {"match": {"prefix": "/more"}, "route": {"cluster": "up"}, "typed_per_filter_config": {name: {
            "@type": format!("{kind}.HeaderMutationPerRoute"),
            "mutations": {"request_mutations": [append("x-by", "route")]}}}},
        {"match": {"prefix": "/"}, "route": {"cluster": "up"}}]);
    let all = json!({"@type": format!("{kind}.HeaderMutation"), "mutations": {
        "request_mutations": [append("x-by", "filter"), {"remove": "x-secret"}, append("x-was", "%REQ(x-by)%")],
        "response_mutations": [append("x-seen", "%REQ(x-secret)%")]}});
    let options = Options {
        manager: filters(&[json!({"name": name, "typed_config": all})]),
        ..Options::default()
    };
    let mesh = Mesh::start(routes, vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    for (path, by) in [("/", "filter"), ("/more", "route")] {
        let mut request = get(path);
        request.headers_mut().insert("x-secret", "1".parse().expect("a value"));
        let seen = client.seen(request).await;
        assert_eq!((seen.echoed("x-by"), seen.echoed("x-secret")), (by, "-"));
        assert_eq!(seen.echoed("x-was"), "filter");
    }
}

#[tokio::test]
async fn a_hash_policy_gives_its_cookie_once() {
    let origin = Origin::start(|_| async { Response::new(full("up")) }).await;
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "hash_policy": [
        {"cookie": {"name": "user", "ttl": "60s", "path": "/", "attributes": [{"name": "SameSite", "value": "Lax"}]}}]}}]);
    let mesh = Mesh::start(
        routes,
        vec![cluster("up", &[origin.address], json!({"lb_policy": "RING_HASH"}))],
        Options::default(),
    )
    .await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let seen = client.get("/").await;
    let set = seen.header("set-cookie");
    assert!(
        set.starts_with("user=\"") && set.ends_with("; Max-Age=60; Path=/; SameSite=Lax; HttpOnly"),
        "{set}"
    );
    let pair = set.split(';').next().expect("a pair");
    let mut request = get("/");
    request.headers_mut().insert("cookie", pair.parse().expect("a value"));
    assert_eq!(client.seen(request).await.header("set-cookie"), "-");
}

#[tokio::test]
async fn faults_are_counted() {
    let origin = Origin::named("up").await;
    let name = "envoy.filters.http.fault";
    let all = json!({"numerator": 100, "denominator": "HUNDRED"});
    let fault = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay": {"fixed_delay": "0.001s", "percentage": all}, "abort": {"http_status": 418, "percentage": all}});
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up"},
        "typed_per_filter_config": {name: fault}}]);
    let filter = json!({"name": name,
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}});
    let options = Options {
        manager: filters(&[filter]),
        ..Options::default()
    };
    let mesh = Mesh::start(routes, vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.status, 418);
    assert_eq!(mesh.http_counter("fault.delays_injected"), 1);
    assert_eq!(mesh.http_counter("fault.aborts_injected"), 1);
    assert_eq!(mesh.proxy.shared.stats.gauge("http.test.fault.active_faults").get(), 0);
}

#[tokio::test]
async fn a_route_may_have_statistics_of_its_own() {
    let origin = Origin::start(|_| async { status(503) }).await;
    let routes = json!([{"match": {"prefix": "/"}, "stat_prefix": "all", "route": {"cluster": "up",
        "retry_policy": {"retry_on": "5xx", "num_retries": 2, "retry_back_off": {"base_interval": "0.001s"}}}}]);
    let mesh = Mesh::start(
        routes,
        vec![cluster("up", &[origin.address], json!({}))],
        Options::default(),
    )
    .await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.status, 503);
    let counted = ["total", "completed", "5xx", "503", "retry", "retry_limit_exceeded"]
        .map(|what| mesh.proxy.counter(&format!("vhost.host.route.all.upstream_rq_{what}")));
    assert_eq!(counted, [3, 1, 1, 1, 2, 1]);
}
