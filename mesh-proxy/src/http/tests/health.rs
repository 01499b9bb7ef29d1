//! Active health checks against servers that can be told to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};

use http::{Request, Version};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::harness::*;
use crate::testing::eventually;
use crate::upstream::health_check;

/// A server whose `/healthy` answers with a status that can be set, and which counts all other requests.
struct Checked {
    status: Arc<AtomicU16>,
    calls: Arc<AtomicUsize>,
    origin: Origin,
}

impl Checked {
    async fn start(code: u16) -> Self {
        let (healthy, calls) = (Arc::new(AtomicU16::new(code)), Arc::new(AtomicUsize::new(0)));
        let origin = {
            let (healthy, calls) = (healthy.clone(), calls.clone());
            Origin::start(move |request: Request<Incoming>| {
                let code = if request.uri().path() == "/healthy" {
                    healthy.load(Relaxed)
                } else {
                    calls.fetch_add(1, Relaxed);
                    200
                };
                async move { status(code) }
            })
            .await
        };
        Checked {
            status: healthy,
            calls,
            origin,
        }
    }
}

fn checks() -> Value {
    json!({"health_checks": [{"timeout": "1s", "interval": "0.02s", "no_traffic_interval": "0.02s", "unhealthy_threshold": 2,
        "healthy_threshold": 2, "http_health_check": {"path": "/healthy", "expected_statuses": [{"start": 200, "end": 300}]}}],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}}})
}

#[tokio::test]
async fn an_endpoint_that_is_unwell_gets_no_traffic_until_it_is_well_again() {
    let (sick, well) = (Checked::start(500).await, Checked::start(204).await);
    let mesh = Mesh::to(&[sick.origin.address, well.origin.address], checks()).await;
    let checking = tokio::spawn(health_check::run(mesh.proxy.shared.clone()));
    let healthy = || mesh.proxy.shared.stats.gauge("cluster.up.health_check.healthy").get();
    eventually("the well one is known to be", || healthy() == 1).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!((sick.calls.load(Relaxed), well.calls.load(Relaxed)), (0, 10));

    sick.status.store(200, Relaxed);
    eventually("both are well", || healthy() == 2).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!((sick.calls.load(Relaxed), well.calls.load(Relaxed)), (5, 15));

    // By its own word: that needs no second check.
    let failures = mesh.cluster_counter("health_check.failure");
    sick.status.store(503, Relaxed);
    eventually("one is unwell", || healthy() == 1).await;
    assert!(mesh.cluster_counter("health_check.failure") > failures);
    assert!(mesh.cluster_counter("health_check.success") > 0);
    checking.abort();
}
