//! Circuit breakers: what is refused, what waits, and what is counted.

use std::time::Duration;

use http::Version;
use serde_json::{Value, json};

use super::harness::*;
use super::resilience::{mesh, slow};
use crate::telemetry::stats::StatValue;
use crate::testing::eventually;

fn thresholds(limits: &Value) -> Value {
    json!({"circuit_breakers": {"thresholds": [limits]}})
}

/// A gauge as `/stats` lists it.
fn listed(mesh: &Mesh, name: &str) -> Option<i64> {
    let name = format!("cluster.up.{name}");
    let found = mesh.proxy.shared.stats.list().into_iter().find(|s| s.name == name)?;
    match found.value {
        StatValue::Gauge(n) => Some(n),
        _ => None,
    }
}

#[tokio::test]
async fn limits_answer_overflow() {
    let origin = slow(Duration::from_millis(300)).await;
    let limits = json!({"circuit_breakers": {"thresholds": [{"max_requests": 1}]}});
    let mesh = mesh(all_to("up"), origin.address, limits).await;
    let (mut one, mut two) = (mesh.client(Version::HTTP_11).await, mesh.client(Version::HTTP_11).await);
    let (a, b) = tokio::join!(one.get("/"), two.get("/"));
    let mut codes = [a.status, b.status];
    codes.sort_unstable();
    assert_eq!(codes, [200, 503]);
    let refused = if a.status == 503 { a } else { b };
    assert_eq!(refused.header("x-envoy-overloaded"), "true");
    assert!(refused.body.ends_with("reset reason: overflow"), "{}", refused.body);
    assert_eq!(one.get("/").await.status, 200);
}

#[tokio::test]
async fn requests_wait_for_a_connection_where_those_are_limited() {
    let origin = slow(Duration::from_millis(50)).await;
    let limits = json!({"circuit_breakers": {"thresholds": [{"max_connections": 1, "max_pending_requests": 10}]}});
    let mesh = mesh(all_to("up"), origin.address, limits).await;
    all_answered((0..5).map(|_| mesh.asking("/")).collect::<Vec<_>>()).await;
    assert_eq!(origin.connections(), 1);
}

/// The lab of the study notes: every limit at 1.
fn all_at_one(pending: u32) -> Value {
    let mut cluster = thresholds(
        &json!({"max_connections": 1, "max_pending_requests": pending, "max_requests": 1,
        "max_retries": 1, "track_remaining": true}),
    );
    let once = protocol(json!({"explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"max_requests_per_connection": 1}}));
    cluster["typed_extension_protocol_options"] = once["typed_extension_protocol_options"].clone();
    cluster
}

#[tokio::test]
async fn requests_past_the_pending_are_refused_and_told_so() {
    let origin = slow(Duration::from_secs(1)).await;
    let mesh = mesh(all_to("up"), origin.address, all_at_one(1)).await;
    assert_eq!(listed(&mesh, "circuit_breakers.default.rq_pending_open"), Some(0));
    assert_eq!(listed(&mesh, "circuit_breakers.default.remaining_rq"), Some(1));
    let one = mesh.asking("/");
    eventually("one is under way", || {
        listed(&mesh, "circuit_breakers.default.rq_open") == Some(1)
    })
    .await;
    let two = mesh.asking("/");
    eventually("one waits", || {
        listed(&mesh, "circuit_breakers.default.rq_pending_open") == Some(1)
    })
    .await;
    assert_eq!(listed(&mesh, "circuit_breakers.default.remaining_cx"), Some(0));
    let three = mesh.get("/").await;
    assert_eq!((three.status, three.header("x-envoy-overloaded")), (503, "true"));
    assert_eq!(mesh.cluster_counter("upstream_rq_pending_overflow"), 1);
    // Whoever waits has asked for a connection once; it is not counted again while it waits.
    assert_eq!(mesh.cluster_counter("upstream_cx_overflow"), 1);
    all_answered([one, two]).await;
    assert_eq!(mesh.cluster_counter("upstream_rq_pending_total"), 2);
    assert_eq!(mesh.cluster_counter("upstream_rq_total"), 2);
}

#[tokio::test]
async fn with_room_to_wait_none_fails() {
    let origin = slow(Duration::from_millis(2)).await;
    let mesh = mesh(all_to("up"), origin.address, all_at_one(2)).await;
    let address = mesh.address;
    let caller = || {
        tokio::spawn(async move {
            let mut client = Client::connect(address, Version::HTTP_11).await;
            for _ in 0..50 {
                assert_eq!(client.get("/").await.status, 200);
            }
        })
    };
    let (one, two) = (caller(), caller());
    one.await.expect("all answered");
    two.await.expect("all answered");
    assert_eq!(mesh.cluster_counter("upstream_rq_pending_overflow"), 0);
    assert_eq!(mesh.cluster_counter("upstream_rq_total"), 100);
    assert_eq!(origin.connections(), 100);
    eventually("everything is given back", || {
        listed(&mesh, "circuit_breakers.default.remaining_cx") == Some(1)
    })
    .await;
    for name in ["remaining_rq", "remaining_retries"] {
        let name = format!("circuit_breakers.default.{name}");
        assert_eq!(listed(&mesh, &name), Some(1), "{name}");
    }
}

#[tokio::test]
async fn those_who_give_up_do_not_block_the_line() {
    let origin = slow(Duration::from_millis(300)).await;
    let limits = thresholds(&json!({"max_connections": 1}));
    let mesh = mesh(all_to("up"), origin.address, limits).await;
    let one = mesh.asking("/");
    eventually("one is under way", || mesh.gauge("cluster.up.upstream_rq_active") == 1).await;
    let two = mesh.asking("/");
    eventually("one waits", || mesh.cluster_counter("upstream_cx_overflow") == 1).await;
    let three = mesh.asking("/");
    eventually("another waits", || mesh.cluster_counter("upstream_cx_overflow") == 2).await;
    two.abort();
    all_answered([one, three]).await;
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn streams_wait_where_connections_are_limited() {
    let origin = slow(Duration::from_millis(50)).await;
    let mut limits = thresholds(&json!({"max_connections": 1}));
    let options = protocol(json!({"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 2}}}));
    limits["typed_extension_protocol_options"] = options["typed_extension_protocol_options"].clone();
    let mesh = mesh(all_to("up"), origin.address, limits).await;
    all_answered((0..10).map(|_| mesh.asking("/")).collect::<Vec<_>>()).await;
    assert_eq!(origin.connections(), 1);
    let overflow = mesh.cluster_counter("upstream_cx_overflow");
    assert!(
        (1..=10).contains(&overflow),
        "at most once for each request: {overflow}"
    );
}

#[tokio::test]
async fn a_budget_stands_in_place_of_the_number_of_retries() {
    let origin = Origin::start(|_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        status(503)
    })
    .await;
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "retry_policy": {
        "retry_on": "5xx", "num_retries": 1, "retry_back_off": {"base_interval": "0.001s"}}}}]);
    let budget = |percent: u32, least: u32| {
        thresholds(&json!({"max_retries": 100, "retry_budget": {
            "budget_percent": {"value": percent}, "min_retry_concurrency": least}}))
    };
    for (percent, least, refused) in [(0, 0, 20), (100, 0, 0)] {
        let mesh = mesh(routes.clone(), origin.address, budget(percent, least)).await;
        let tasks: Vec<_> = (0..20).map(|_| mesh.asking("/")).collect();
        for task in tasks {
            assert_eq!(task.await.expect("a task").status, 503);
        }
        let overflow = mesh.cluster_counter("upstream_rq_retry_overflow");
        if refused > 0 {
            assert_eq!((overflow, mesh.cluster_counter("upstream_rq_retry")), (refused, 0));
        } else {
            assert!(overflow < 20, "{overflow}");
        }
    }
}

#[tokio::test]
async fn connections_of_before_make_room_where_limits_change() {
    let origin = slow(Duration::from_millis(100)).await;
    let clusters = |extra| vec![cluster("up", &[origin.address], extra)];
    for upstream in [json!({}), http2_upstream()] {
        let mut mesh = Mesh::to(&[origin.address], upstream.clone()).await;
        all_answered([mesh.asking("/"), mesh.asking("/")]).await;
        let open = listed(&mesh, "upstream_cx_active");
        assert!(open > Some(0), "connections stay for the next requests: {open:?}");

        let mut limited = thresholds(&json!({"max_connections": 1}));
        merge(&mut limited, upstream);
        let before = origin.connections();
        mesh.apply(&all_to("up"), clusters(limited), &Options::default());
        eventually("the idle ones are closed", || {
            listed(&mesh, "upstream_cx_active") == Some(0)
        })
        .await;
        all_answered([mesh.asking("/"), mesh.asking("/")]).await;
        assert_eq!(origin.connections() - before, 1, "both by the one that may be");
    }
}

#[tokio::test]
async fn a_request_under_way_ends_on_its_connection_which_serves_no_other() {
    // Longer than it takes until the change is seen.
    let origin = slow(Duration::from_secs(3)).await;
    let mut mesh = Mesh::to(&[origin.address], json!({})).await;
    let asking = mesh.asking("/");
    eventually("it is under way", || listed(&mesh, "upstream_rq_active") == Some(1)).await;
    let limited = cluster("up", &[origin.address], thresholds(&json!({"max_connections": 1})));
    mesh.apply(&all_to("up"), vec![limited], &Options::default());
    all_answered([asking]).await;
    eventually("its connection is closed", || {
        listed(&mesh, "upstream_cx_active") == Some(0)
    })
    .await;
}
