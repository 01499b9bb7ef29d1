//! Hedging: a late attempt gets company.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::harness::*;
use crate::testing::eventually;

/// Answers attempt `n` as `plan` says: after a delay, with a status and the body that came.
async fn planned(plan: &'static [(u64, u16)]) -> Origin {
    let calls = Arc::new(AtomicUsize::new(0));
    Origin::start(move |request: Request<Incoming>| {
        let call = calls.fetch_add(1, Relaxed);
        async move {
            let (delay, code) = plan.get(call).copied().unwrap_or((0, 500));
            let bytes = request.into_body().collect().await.map(|b| b.to_bytes());
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let mut response = Response::new(full(bytes.unwrap_or_default()));
            *response.status_mut() = http::StatusCode::from_u16(code).expect("a status");
            let value = call.to_string().parse().expect("a value");
            response.headers_mut().insert("call", value);
            response
        }
    })
    .await
}

fn retries(num: u32) -> Value {
    json!({"retry_on": "5xx", "num_retries": num, "per_try_timeout": "0.1s",
        "retry_back_off": {"base_interval": "0.001s"}})
}

async fn hedged(origin: &Origin, policy: Value, extra: Value) -> Mesh {
    let options = Options {
        host: json!({"hedge_policy": {"hedge_on_per_try_timeout": true}}),
        ..Options::default()
    };
    let routes =
        json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "20s", "retry_policy": policy}}]);
    Mesh::start(routes, vec![cluster("up", &[origin.address], extra)], options).await
}

#[tokio::test]
async fn the_first_good_answer_wins_and_the_others_are_reset() {
    for (version, extra) in [(Version::HTTP_11, json!({})), (Version::HTTP_2, http2_upstream())] {
        let origin = planned(&[(60_000, 200), (0, 200)]).await;
        let mesh = hedged(&origin, retries(2), extra).await;
        let mut client = Client::connect(mesh.address, version).await;
        let seen = client.seen(post("/", vec![b'b'; 20_000])).await;
        assert_eq!((seen.status, seen.header("call"), seen.body.len()), (200, "1", 20_000));
        assert_eq!(mesh.cluster_counter("upstream_rq_retry"), 1);
        assert_eq!(mesh.cluster_counter("upstream_rq_retry_success"), 1);
        let active = mesh.proxy.shared.stats.gauge("cluster.up.upstream_rq_active");
        eventually("the slow one is gone", || active.get() == 0).await;
    }
}

#[tokio::test]
async fn a_late_attempt_may_still_win() {
    // The second is slower yet.
    let origin = planned(&[(400, 200), (60_000, 200)]).await;
    let mesh = hedged(&origin, retries(1), json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let seen = client.get("/").await;
    assert_eq!((seen.status, seen.header("call")), (200, "0"));
}

#[tokio::test]
async fn a_bad_answer_waits_for_the_others() {
    // The second fails at once, and there are no retries left; the first still answers.
    let origin = planned(&[(500, 200), (0, 503)]).await;
    let mesh = hedged(&origin, retries(1), json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    let seen = client.get("/").await;
    assert_eq!((seen.status, seen.header("call")), (200, "0"));
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn attempts_are_limited_by_the_retries() {
    let origin = planned(&[(700, 200), (700, 200), (700, 200), (700, 200)]).await;
    let mesh = hedged(&origin, retries(1), json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn the_whole_requests_timeout_ends_all_of_them() {
    let origin = planned(&[(60_000, 200), (60_000, 200), (60_000, 200)]).await;
    let options = Options {
        host: json!({"hedge_policy": {"hedge_on_per_try_timeout": true}}),
        ..Options::default()
    };
    let routes = json!([{"match": {"prefix": "/"},
        "route": {"cluster": "up", "timeout": "0.5s", "retry_policy": retries(2)}}]);
    let mesh = Mesh::start(routes, vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.status, 504);
    assert_eq!(mesh.cluster_counter("upstream_rq_timeout"), 1);
    let active = mesh.proxy.shared.stats.gauge("cluster.up.upstream_rq_active");
    eventually("all are gone", || active.get() == 0).await;
}

#[tokio::test]
async fn plain_retries_stay_as_they_are() {
    let origin = planned(&[(0, 503), (0, 200)]).await;
    let mesh = hedged(&origin, retries(2), json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(origin.requests(), 2);
}
