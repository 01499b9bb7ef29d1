//! What is read of an API server.

use std::sync::Arc;

use mesh_control::source::Loaded;
use mesh_control::source::kubernetes::Kubernetes;
use mesh_control::store::Store;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::common::WAIT;

async fn open(server: &ApiServer) -> Kubernetes {
    let cluster = server.cluster("one");
    let settings = ["istio".to_owned()];
    let opened = Kubernetes::open(&cluster.client, "istio-system", &settings).await;
    opened.expect("the server answers")
}

/// Reads until it is as expected.
async fn until(objects: &Kubernetes, expected: impl Fn(&Loaded) -> bool) -> Loaded {
    let wait = async {
        loop {
            let loaded = objects.load();
            if expected(&loaded) {
                return loaded;
            }
            objects.changed().await;
        }
    };
    match tokio::time::timeout(WAIT, wait).await {
        Ok(loaded) => loaded,
        Err(_) => panic!("{:?}", objects.load()),
    }
}

fn names(loaded: &Loaded) -> Vec<String> {
    let names = loaded.objects.iter();
    names.map(|o| format!("{} {}", o.kind(), o.name())).collect()
}

fn rule(name: &str, host: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "shop"}, "spec": {"host": host}})
}

#[tokio::test]
async fn one_bad_object_stops_no_watch() {
    let server = ApiServer::start().await;
    server.put(rule("bad", &json!(7)));
    server.put(rule("good", &json!("web")));
    let objects = open(&server).await;
    let loaded = objects.load();
    assert_eq!(names(&loaded), ["DestinationRule good"]);
    let told = loaded.diagnostics[0].to_string();
    assert!(told.starts_with("DestinationRule shop/bad: spec.host: "), "{told}");

    // Also while it is watched, before others and after.
    server.put(rule("worse", &json!({"a": []})));
    server.put(rule("better", &json!("web")));
    let loaded = until(&objects, |l| l.objects.len() == 2).await;
    assert_eq!(names(&loaded), ["DestinationRule better", "DestinationRule good"]);
    server.put(rule("bad", &json!("web")));
    server.remove("destinationrules", "shop", "worse");
    let loaded = until(&objects, |l| l.objects.len() == 3 && l.diagnostics.is_empty()).await;
    assert_eq!(names(&loaded).len(), 3);
}

#[tokio::test]
async fn what_went_unseen_is_gone_after_the_next_list() {
    let server = ApiServer::start().await;
    for name in ["a", "b"] {
        server.put(rule(name, &json!("web")));
    }
    let objects = open(&server).await;
    assert_eq!(objects.load().objects.len(), 2);
    server.remove_unseen("destinationrules", "shop", "a");
    let loaded = until(&objects, |l| l.objects.len() == 1).await;
    assert_eq!(names(&loaded), ["DestinationRule b"]);
    server.put(rule("c", &json!("web")));
    until(&objects, |l| l.objects.len() == 2).await;
}

#[tokio::test]
async fn a_pod_that_is_marked_for_deletion_is_no_endpoint_any_more() {
    let server = ApiServer::start().await;
    let pod = |name: &str, ip: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web"}]},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    server.put(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}}),
    );
    server.put(pod("web-1", "10.0.0.1"));
    server.put(pod("web-2", "10.0.0.2"));
    let endpoint = |name: &str, ip: &str| {
        json!({"addresses": [ip], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": name, "namespace": "shop"},
            "topology": {"kubernetes.io/hostname": "node-1"}})
    };
    server.put(
        json!({"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [endpoint("web-1", "10.0.0.1"), endpoint("web-2", "10.0.0.2")],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
    );
    let addresses = |loaded: &Loaded| {
        let store = Store::build(loaded.objects.iter().cloned(), Arc::default());
        let service = store
            .service("web.shop.svc.cluster.local", "shop")
            .expect("the service");
        let all = store.endpoints(service).values().flatten();
        all.map(|e| e.address.clone()).collect::<Vec<_>>()
    };
    let objects = open(&server).await;
    assert_eq!(addresses(&objects.load()), ["10.0.0.1", "10.0.0.2"]);

    // The slice still has it, and the Pod is still ready: controllers and kubelets take their time.
    let mut going = pod("web-1", "10.0.0.1");
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    server.put(going);
    until(&objects, |l| addresses(l) == ["10.0.0.2"]).await;
}
