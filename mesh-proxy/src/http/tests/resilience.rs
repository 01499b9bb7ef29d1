//! Retries and timeouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::harness::*;
use crate::testing::refused;

/// Fails this many times for each path, then answers with the body.
async fn failing(times: usize, code: u16) -> (Origin, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let origin = Origin::start(move |request: Request<Incoming>| {
        let call = counted.fetch_add(1, Relaxed);
        async move {
            let count = request.headers().get("x-envoy-attempt-count").cloned();
            let body = request
                .into_body()
                .collect()
                .await
                .map(|b| b.to_bytes())
                .unwrap_or_default();
            if call < times {
                return status(code);
            }
            let mut response = Response::new(full(body));
            if let Some(count) = count {
                response.headers_mut().insert("attempt", count);
            }
            response
        }
    })
    .await;
    (origin, calls)
}

fn retrying(policy: &Value) -> Value {
    json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "retry_policy": policy}}])
}

pub(super) async fn mesh(routes: Value, origin: std::net::SocketAddr, extra: Value) -> Mesh {
    let options = Options {
        host: json!({"include_request_attempt_count": true}),
        ..Options::default()
    };
    Mesh::start(routes, vec![cluster("up", &[origin], extra)], options).await
}

#[tokio::test]
async fn responses_are_retried_with_their_bodies() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (origin, calls) = failing(2, 503).await;
        let mesh = mesh(
            retrying(&json!({"retry_on": "5xx", "num_retries": 3})),
            origin.address,
            json!({}),
        )
        .await;
        let mut client = Client::connect(mesh.address, version).await;
        let seen = client.seen(post("/", vec![b'b'; 50_000])).await;
        assert_eq!((seen.status, seen.body.len()), (200, 50_000));
        assert_eq!(seen.header("attempt"), "3");
        assert_eq!(calls.load(Relaxed), 3);
        assert_eq!(mesh.cluster_counter("upstream_rq_retry"), 2);
        assert_eq!(mesh.cluster_counter("upstream_rq_retry_success"), 1);
    }
}

#[tokio::test]
async fn retries_end() {
    let (origin, calls) = failing(100, 503).await;
    let mesh = mesh(
        retrying(&json!({"retry_on": "gateway-error", "num_retries": 2})),
        origin.address,
        json!({}),
    )
    .await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.status, 503);
    assert_eq!(calls.load(Relaxed), 3);
    assert_eq!(mesh.cluster_counter("upstream_rq_retry_limit_exceeded"), 1);
}

#[tokio::test]
async fn only_what_the_policy_names_is_retried() {
    let (origin, calls) = failing(100, 500).await;
    let mesh = mesh(
        retrying(&json!({"retry_on": "gateway-error,connect-failure"})),
        origin.address,
        json!({}),
    )
    .await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.status, 500);
    assert_eq!(calls.load(Relaxed), 1);
}

#[tokio::test]
async fn headers_of_a_response_may_ask_for_a_retry_or_forbid_it() {
    let by_header = json!({"retry_on": "retriable-headers", "num_retries": 1,
        "retriable_headers": [{"name": "x-again", "string_match": {"exact": "yes"}}]});
    let by_code = json!({"retry_on": "5xx", "num_retries": 1});
    for (policy, code, name, value, calls) in [
        (&by_header, 200, "x-again", "yes", 2),
        (&by_header, 200, "x-again", "no", 1),
        (&by_header, 503, "x-other", "yes", 1),
        (&by_code, 503, "x-other", "yes", 2),
        // As in Envoy: that one upstream has too much to do says nothing of others.
        (&by_code, 503, "x-envoy-overloaded", "true", 2),
        (&by_code, 503, "x-envoy-ratelimited", "true", 1),
    ] {
        let origin = Origin::start(move |_: Request<Incoming>| async move {
            let mut response = status(code);
            response
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
            response
        })
        .await;
        let mesh = mesh(retrying(policy), origin.address, json!({})).await;
        let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
        assert_eq!(client.seen(get("/")).await.status, code);
        assert_eq!(
            mesh.cluster_counter("upstream_rq_total"),
            calls,
            "{code} {name}: {value}"
        );
    }
}

#[tokio::test]
async fn a_body_past_the_limit_is_sent_once_and_whole() {
    let (origin, calls) = failing(0, 503).await;
    let mesh = mesh(
        retrying(&json!({"retry_on": "5xx", "num_retries": 3})),
        origin.address,
        json!({}),
    )
    .await;
    let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
    // The limit is that of the listener, 1 MiB.
    let seen = client.seen(post("/", vec![b'b'; 2_000_000])).await;
    assert_eq!((seen.status, seen.body.len()), (200, 2_000_000));
    let (failing, failed) = failing(100, 503).await;
    let mesh = self::mesh(
        retrying(&json!({"retry_on": "5xx", "num_retries": 3})),
        failing.address,
        json!({}),
    )
    .await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.seen(post("/", vec![b'b'; 2_000_000])).await.status, 503);
    assert_eq!((calls.load(Relaxed), failed.load(Relaxed)), (1, 1));
}

#[tokio::test]
async fn retries_go_to_other_endpoints() {
    let (bad, _) = failing(100, 503).await;
    let good = Origin::named("good").await;
    let policy = json!({"retry_on": "5xx", "num_retries": 1, "host_selection_retry_max_attempts": 5, "retry_host_predicate": [{
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}]});
    let clusters = vec![cluster("up", &[bad.address, good.address], json!({}))];
    let mesh = Mesh::start(retrying(&policy), clusters, Options::default()).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.body, "good");
    }
}

#[tokio::test]
async fn retries_go_to_the_endpoints_of_now() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (seen, free, calls) = (asked.clone(), go.clone(), Arc::new(AtomicUsize::new(0)));
    let leaving = Origin::start(move |_| {
        let (seen, free, first) = (seen.clone(), free.clone(), calls.fetch_add(1, Relaxed) == 0);
        async move {
            if first {
                seen.notify_one();
                free.notified().await;
            }
            status(503)
        }
    })
    .await;
    let coming = Origin::named("coming").await;
    let routes = retrying(&json!({"retry_on": "5xx", "num_retries": 1}));
    let up = |origin: &Origin| vec![cluster("up", &[origin.address], json!({}))];
    let mut mesh = Mesh::start(routes.clone(), up(&leaving), Options::default()).await;
    let answer = mesh.asking("/");
    asked.notified().await;
    mesh.apply(&routes, up(&coming), &Options::default());
    go.notify_one();
    assert_eq!(answer.await.expect("asks").body, "coming");
}

#[tokio::test]
async fn refused_connections() {
    let gone = refused();
    let mesh = mesh(
        retrying(&json!({"retry_on": "connect-failure", "num_retries": 2})),
        gone,
        json!({}),
    )
    .await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let seen = client.get("/").await;
    assert_eq!(seen.status, 503);
    assert!(
        seen.body
            .starts_with("upstream connect error or disconnect/reset before headers. "),
        "{}",
        seen.body
    );
    assert!(seen.body.contains("connection failure"), "{}", seen.body);
    assert_eq!(mesh.cluster_counter("upstream_cx_connect_fail"), 3);
    assert_eq!(mesh.proxy.shared.stats.gauge("cluster.up.upstream_cx_active").get(), 0);
}

/// Answers after this long.
pub(super) async fn slow(delay: Duration) -> Origin {
    Origin::start(move |_| async move {
        tokio::time::sleep(delay).await;
        Response::new(full("late"))
    })
    .await
}

#[tokio::test]
async fn the_route_timeout_ends_requests() {
    let origin = slow(Duration::from_secs(60)).await;
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0.1s"}}]);
    let mesh = mesh(routes, origin.address, json!({})).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = Client::connect(mesh.address, version).await;
        for request in [get("/"), post("/", "body")] {
            let seen = client.seen(request).await;
            assert_eq!((seen.status, seen.body.as_str()), (504, "upstream request timeout"));
        }
        let mut request = post("/", "");
        request
            .headers_mut()
            .insert("content-type", "application/grpc".parse().expect("a value"));
        assert_eq!(client.seen(request).await.header("grpc-status"), "14");
    }
    assert_eq!(mesh.cluster_counter("upstream_rq_timeout"), 6);
}

#[tokio::test]
async fn grpc_callers_set_their_own_timeout() {
    let origin = slow(Duration::from_secs(60)).await;
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s",
        "max_stream_duration": {"grpc_timeout_header_max": "0s"}}}]);
    let mesh = mesh(routes, origin.address, json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
    let mut request = post("/", "");
    for (name, value) in [("content-type", "application/grpc"), ("grpc-timeout", "100m")] {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let seen = client.seen(request).await;
    assert_eq!(
        (seen.header("grpc-status"), seen.header("grpc-message")),
        ("4", "downstream duration timeout")
    );
    assert_eq!(mesh.http_counter("downstream_rq_max_duration_reached"), 1);
}

#[tokio::test]
async fn a_deadline_covers_the_response() {
    let (origin, _) = raw_origin(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").await;
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up",
        "max_stream_duration": {"grpc_timeout_header_max": "1s"}}}]);
    let mesh = mesh(routes, origin, json!({})).await;
    let request = b"GET / HTTP/1.1\r\nHost: h\r\ngrpc-timeout: 9S\r\n\r\n";
    let answer = raw(mesh.address, request, false).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\npart"),
        "{answer}"
    );
    for name in ["max_duration_reached", "tx_reset", "rx_reset", "completed"] {
        assert_eq!(mesh.http_counter(&format!("downstream_rq_{name}")), 1, "{name}");
    }
}

#[tokio::test]
async fn each_try_has_its_own_timeout() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let origin = Origin::start(move |_| {
        let call = counted.fetch_add(1, Relaxed);
        async move {
            if call == 0 {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Response::new(full("second"))
        }
    })
    .await;
    let policy = json!({"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.2s"});
    let mesh = mesh(retrying(&policy), origin.address, json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.body, "second");
    assert_eq!(mesh.cluster_counter("upstream_rq_per_try_timeout"), 1);
}

#[tokio::test]
async fn requests_have_to_come_in_time() {
    let origin = Origin::echo().await;
    let options = Options {
        manager: json!({"request_timeout": "0.2s"}),
        ..Options::default()
    };
    let mesh = Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], json!({}))], options).await;
    let answer = raw(
        mesh.address,
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\npart",
        false,
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("request timeout"),
        "{answer}"
    );
    assert_eq!(
        Client::connect(mesh.address, Version::HTTP_11)
            .await
            .get("/")
            .await
            .status,
        200
    );
}
