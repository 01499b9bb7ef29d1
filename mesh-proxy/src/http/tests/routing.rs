//! Routes, rewrites, header operations, replies of the proxy's own.

use http::Version;
use serde_json::json;

use super::harness::*;
use crate::shared::Drain;
use crate::testing::eventually;

#[tokio::test]
async fn routes_by_path_header_and_query() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let routes = json!([
        {"match": {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]}, "route": {"cluster": "two"}},
        {"match": {"path": "/only", "query_parameters": [{"name": "v", "string_match": {"exact": "2"}}]}, "route": {"cluster": "two"}},
        {"match": {"safe_regex": {"regex": "/items/[0-9]+"}}, "route": {"cluster": "two"}},
        {"match": {"prefix": "/one"}, "route": {"cluster": "one"}},
    ]);
    let clusters = vec![
        cluster("one", &[one.address], json!({})),
        cluster("two", &[two.address], json!({})),
    ];
    let mesh = Mesh::start(routes, clusters, Options::default()).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    for (path, expected) in [("/one", "one"), ("/only?v=2", "two"), ("/items/42", "two")] {
        assert_eq!(client.get(path).await.body, expected, "{path}");
    }
    for path in ["/only", "/items/x", "/"] {
        assert_eq!(client.get(path).await.status, 404, "{path}");
    }
    let mut request = get("/");
    request
        .headers_mut()
        .insert("end-user", "jason".parse().expect("a value"));
    assert_eq!(client.seen(request).await.body, "two");
    assert_eq!(mesh.http_counter("no_route"), 3);
}

#[tokio::test]
async fn weights_are_kept() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let routes = json!([{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
        {"name": "one", "weight": 90}, {"name": "two", "weight": 10},
    ]}}}]);
    let clusters = vec![
        cluster("one", &[one.address], json!({})),
        cluster("two", &[two.address], json!({})),
    ];
    let mesh = Mesh::start(routes, clusters, Options::default()).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
    for _ in 0..1000 {
        assert_eq!(client.get("/").await.status, 200);
    }
    // 100 are expected; 12 standard deviations off would not be chance.
    assert!(
        (20..220).contains(&two.requests()),
        "{} of 1000 for a weight of 10 %",
        two.requests()
    );
    assert_eq!(one.requests() + two.requests(), 1000);
}

#[tokio::test]
async fn rewrites_of_path_and_host() {
    let origin = Origin::echo().await;
    let routes = json!([
        {"match": {"prefix": "/api/"}, "route": {"cluster": "up", "prefix_rewrite": "/", "host_rewrite_literal": "inner"}},
        {"match": {"prefix": "/r/"}, "route": {"cluster": "up", "regex_rewrite": {"pattern": {"regex": "^/r/([^/]+)/(.*)$"}, "substitution": "/\\2/\\1"}}},
    ]);
    let mesh = Mesh::start(
        routes,
        vec![cluster("up", &[origin.address], json!({}))],
        Options::default(),
    )
    .await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let seen = client.get("/api/items?q=1").await;
    assert!(seen.body.starts_with("GET /items?q=1 "), "{}", seen.body);
    assert_eq!(seen.echoed("host"), "inner");
    assert_eq!(seen.echoed("x-envoy-original-path"), "/api/items?q=1");
    let seen = client.get("/r/a/b").await;
    assert!(seen.body.starts_with("GET /b/a "), "{}", seen.body);
}

#[tokio::test]
async fn header_operations_on_all_levels() {
    let origin = Origin::echo().await;
    let add =
        |key: &str, value: &str, action: &str| json!({"header": {"key": key, "value": value}, "append_action": action});
    let set = "OVERWRITE_IF_EXISTS_OR_ADD";
    let routes = json!([{
        "match": {"prefix": "/"}, "route": {"cluster": "up"},
        "request_headers_to_add": [add("x-level", "route", set), add("x-many", "a", "APPEND_IF_EXISTS_OR_ADD"), add("x-there", "no", "ADD_IF_ABSENT")],
        "request_headers_to_remove": ["x-secret"],
        "response_headers_to_add": [add("x-out", "route", set)],
        "response_headers_to_remove": ["content-type"],
    }]);
    let options = Options {
        host: json!({
            "request_headers_to_add": [add("x-level", "host", set)],
            "response_headers_to_add": [add("x-out", "host", set)],
            "include_request_attempt_count": true,
        }),
        ..Options::default()
    };
    let mesh = Mesh::start(routes, vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let mut request = get("/");
    for (name, value) in [("x-secret", "1"), ("x-there", "yes"), ("x-many", "0")] {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let seen = client.seen(request).await;
    // The most specific comes first, so the last word has the least specific.
    assert_eq!(seen.echoed("x-level"), "host");
    assert_eq!(seen.header("x-out"), "host");
    assert_eq!(seen.echoed("x-there"), "yes");
    assert_eq!(seen.body.matches("x-many: ").count(), 2);
    assert_eq!(seen.echoed("x-secret"), "-");
    assert_eq!(seen.echoed("x-envoy-attempt-count"), "1");
}

#[tokio::test]
async fn redirects_and_direct_responses() {
    let routes = json!([
        {"match": {"prefix": "/old"}, "redirect": {"prefix_rewrite": "/new", "response_code": "FOUND"}},
        {"match": {"path": "/direct"}, "direct_response": {"status": 418, "body": {"inline_string": "short"}},
         "response_headers_to_add": [{"header": {"key": "x-a", "value": "b"}}]},
    ]);
    let mesh = Mesh::start(routes, vec![], Options::default()).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = Client::connect(mesh.address, version).await;
        let seen = client.get("/old/x?y=z").await;
        assert_eq!(
            (seen.status, seen.header("location")),
            (302, "http://test.local/new/x?y=z")
        );
        let seen = client.get("/direct").await;
        assert_eq!(
            (seen.status, seen.body.as_str(), seen.header("x-a")),
            (418, "short", "b")
        );
    }
}

#[tokio::test]
async fn missing_clusters_and_endpoints() {
    let routes = json!([
        {"match": {"prefix": "/none"}, "route": {"cluster": "none"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "up"}},
    ]);
    let mesh = Mesh::start(routes, vec![cluster("up", &[], json!({}))], Options::default()).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/none").await.status, 503);
    let seen = client.get("/").await;
    assert_eq!((seen.status, seen.body.as_str()), (503, "no healthy upstream"));
    let mut request = post("/x", "");
    request
        .headers_mut()
        .insert("content-type", "application/grpc".parse().expect("a value"));
    let seen = client.seen(request).await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.header("grpc-status"), "14");
    assert_eq!(seen.header("grpc-message"), "no healthy upstream");
    assert_eq!(mesh.http_counter("no_cluster"), 1);
}

#[tokio::test]
async fn paths_are_normalized_before_routing() {
    let origin = Origin::echo().await;
    let routes = json!([
        {"match": {"prefix": "/admin"}, "direct_response": {"status": 403}},
        {"match": {"prefix": "/"}, "route": {"cluster": "up"}},
    ]);
    let options = Options {
        manager: json!({"normalize_path": true, "merge_slashes": true, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"}),
        ..Options::default()
    };
    let mesh = Mesh::start(routes, vec![cluster("up", &[origin.address], json!({}))], options).await;
    for path in [
        "/admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "//admin",
        "/%2Fadmin",
        "/x%2f..%5cadmin",
        "/./admin",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let answer = raw(mesh.address, request.as_bytes(), false).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn faults_and_cors() {
    let origin = Origin::named("up").await;
    let routes = json!([
        {"match": {"prefix": "/abort"}, "route": {"cluster": "up"}, "typed_per_filter_config": {"envoy.filters.http.fault": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "abort": {"http_status": 555, "percentage": {"numerator": 100}}}}},
        {"match": {"prefix": "/"}, "route": {"cluster": "up"}, "typed_per_filter_config": {"envoy.filters.http.cors": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allow_origin_string_match": [{"exact": "https://a.example"}], "allow_methods": "GET,POST", "max_age": "60"}}},
    ]);
    let filter = |name: &str, kind: &str| json!({"name": name, "typed_config": {"@type": format!("type.googleapis.com/{kind}")}});
    let options = Options {
        manager: json!({"http_filters": [
            filter("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
            filter("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
            filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
        ]}),
        ..Options::default()
    };
    let mesh = Mesh::start(routes, vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let seen = client.get("/abort").await;
    assert_eq!((seen.status, seen.body.as_str()), (555, "fault filter abort"));
    let mut preflight = get("/");
    *preflight.method_mut() = http::Method::OPTIONS;
    for (name, value) in [
        ("origin", "https://a.example"),
        ("access-control-request-method", "POST"),
    ] {
        preflight.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let seen = client.seen(preflight).await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.header("access-control-allow-origin"), "https://a.example");
    assert_eq!(seen.header("access-control-allow-methods"), "GET,POST");
    assert_eq!(origin.requests(), 0);
    let mut request = get("/");
    request
        .headers_mut()
        .insert("origin", "https://a.example".parse().expect("a value"));
    let seen = client.seen(request).await;
    assert_eq!(
        (seen.body.as_str(), seen.header("access-control-allow-origin")),
        ("up", "https://a.example")
    );
}

#[tokio::test]
async fn an_open_connection_follows_the_configuration() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let clusters = || {
        vec![
            cluster("one", &[one.address], json!({})),
            cluster("two", &[two.address], json!({})),
        ]
    };
    let mut mesh = Mesh::start(all_to("one"), clusters(), Options::default()).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        mesh.apply(&all_to("one"), clusters(), &Options::default());
        let mut client = Client::connect(mesh.address, version).await;
        assert_eq!(client.get("/").await.body, "one");
        mesh.apply(&all_to("two"), clusters(), &Options::default());
        assert_eq!(client.get("/").await.body, "two", "{version:?}");
    }
}

#[tokio::test]
async fn draining_tells_callers_of_inbound_listeners() {
    let origin = Origin::named("up").await;
    for (direction, closes) in [("INBOUND", true), ("OUTBOUND", false)] {
        let options = Options {
            direction: Some(direction),
            ..Options::default()
        };
        let mesh = Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], json!({}))], options).await;
        let mut one = Client::connect(mesh.address, Version::HTTP_11).await;
        let mut two = Client::connect(mesh.address, Version::HTTP_2).await;
        assert_eq!(one.get("/").await.header("connection"), "-");
        assert_eq!(two.get("/").await.status, 200);
        mesh.proxy.shared.drain.send_replace(Drain::Draining);
        if closes {
            eventually("the drain is seen", || {
                mesh.http_counter("downstream_cx_drain_close") == 2
            })
            .await;
            assert_eq!(one.get("/").await.header("connection"), "close");
            let Client::Http2(sender) = &two else {
                unreachable!("asked for HTTP/2")
            };
            eventually("GOAWAY", || sender.is_closed()).await;
        } else {
            let seen = one.get("/").await;
            assert_eq!((seen.status, seen.header("connection")), (200, "-"));
            assert_eq!(two.get("/").await.status, 200);
        }
    }
}

#[tokio::test]
async fn an_edge_does_not_believe_callers() {
    let origin = Origin::echo().await;
    let options = Options {
        manager: json!({"use_remote_address": true, "server_name": "edge"}),
        ..Options::default()
    };
    let mesh = Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let mut request = get("/");
    for (name, value) in [
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-internal", "true"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-client-cert", "By=spiffe://a"),
        ("x-request-id", "mine"),
        ("x-envoy-decorator-operation", "mine"),
    ] {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let seen = client.seen(request).await;
    assert_eq!(seen.header("server"), "edge");
    // Not the loopback address that it came from, unless there is no other.
    let own = crate::http::headers::LOCAL_ADDRESS.to_string();
    assert_eq!(seen.echoed("x-forwarded-for"), format!("6.6.6.6,{own}"));
    assert_eq!(seen.echoed("x-forwarded-proto"), "http");
    assert_eq!(seen.echoed("x-envoy-external-address"), "127.0.0.1");
    assert_eq!(seen.echoed("x-request-id").len(), 36);
    for gone in [
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-internal",
        "x-forwarded-client-cert",
        "x-envoy-decorator-operation",
    ] {
        assert_eq!(seen.echoed(gone), "-", "{gone}");
    }
}

#[tokio::test]
async fn mirrors_get_a_copy_with_its_body() {
    let origin = Origin::named("up").await;
    let (copy, seen) = raw_origin(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await;
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "request_mirror_policies": [{"cluster": "copy"}]}}]);
    let clusters = vec![
        cluster("up", &[origin.address], json!({})),
        cluster("copy", &[copy], json!({})),
    ];
    let mesh = Mesh::start(routes, clusters, Options::default()).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.seen(post("/m", "payload")).await.body, "up");
    eventually("the copy arrives", || {
        let text = String::from_utf8_lossy(&seen.lock()).into_owned();
        text.starts_with("POST /m ")
            && text.to_lowercase().contains("host: test.local-shadow\r\n")
            && text.ends_with("payload")
    })
    .await;
}

#[tokio::test]
async fn mirrors_that_hang_are_given_up_with_the_routes_timeout() {
    let origin = Origin::named("up").await;
    let (copy, _) = raw_origin(b"").await;
    let routes = json!([{"match": {"prefix": "/"}, "route": {
        "cluster": "up", "timeout": "0.2s", "request_mirror_policies": [{"cluster": "copy"}],
    }}]);
    let clusters = vec![
        cluster("up", &[origin.address], json!({})),
        cluster("copy", &[copy], json!({})),
    ];
    let mesh = Mesh::start(routes, clusters, Options::default()).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.body, "up");
    eventually("the copy is given up", || {
        mesh.proxy.counter("cluster.copy.upstream_rq_timeout") == 1
    })
    .await;
}
