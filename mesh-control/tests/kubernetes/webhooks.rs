//! What the API server asks.

use std::sync::Arc;

use base64::Engine as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use mesh_control::serve::{self, Options, Running, Source};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::api_server::ApiServer;
use crate::common::{options, until};

pub(crate) fn on_a_cluster(dir: &std::path::Path) -> Options {
    Options {
        source: Source::Kubernetes,
        ..options(dir)
    }
}

/// Sends it as the API server does, which knows the control plane by its CA bundle.
async fn post(running: &Running, method: &str, path: &str, body: Bytes) -> (u16, Value) {
    let mut roots = rustls::RootCertStore::empty();
    let bundle = std::fs::read(&running.roots).expect("roots");
    for pem in x509_parser::pem::Pem::iter_from_buffer(&bundle) {
        roots.add(pem.expect("PEM").contents.into()).expect("a root");
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(running.webhook.expect("the port"))
        .await
        .expect("connects");
    let name = "istiod.istio-system.svc".try_into().expect("a name");
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("TLS");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "istiod");
    let response = sender
        .send_request(request.body(Full::new(body)).expect("a request"))
        .await;
    let response = response.expect("a response");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn review(object: &Value) -> Bytes {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "7", "namespace": "shop", "operation": "CREATE", "object": object}})
    .to_string()
    .into()
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "web", "image": "web"}]}})
}

/// Image of the proxy that a Pod gets, with all variables of its environment.
async fn injected(running: &Running, path: &str) -> (String, String) {
    let (status, answer) = post(running, "POST", path, review(&pod())).await;
    assert_eq!((status, &answer["response"]["uid"]), (200, &json!("7")), "{answer}");
    let patch = answer["response"]["patch"].as_str().expect("a patch");
    let patch = base64::prelude::BASE64_STANDARD.decode(patch).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a JSON patch");
    let mut pod = pod();
    json_patch::patch(&mut pod, &patch).expect("it fits");
    let containers = pod["spec"]["containers"].as_array().expect("containers");
    let proxy = containers.iter().find(|c| c["name"] == "istio-proxy").expect("a proxy");
    let image = proxy["image"].as_str().unwrap_or_default().to_owned();
    (image, proxy["env"].to_string())
}

fn settings(values: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector", "namespace": "istio-system"},
        "data": {"config": "policy: enabled", "values": values}})
}

#[tokio::test]
async fn pods_are_injected_with_the_settings_that_were_good_last() {
    let server = ApiServer::start().await;
    server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    let dir = tempfile::tempdir().expect("dir");
    let started = serve::start_in(on_a_cluster(dir.path()), Some(server.cluster("one"))).await;
    let running = started.expect("starts");
    // Nothing starts without its proxy because nobody has said which.
    assert_eq!(post(&running, "POST", "/inject", review(&pod())).await.0, 503);

    let pages = running.monitoring;
    server.put(settings(r#"{"global": {"hub": "first"}}"#));
    until(pages, "/debug/configz", |p| p.contains("istio-sidecar-injector")).await;
    let (image, environment) = injected(&running, "/inject/cluster/east/net/n1").await;
    assert!(image.starts_with("first/"), "{image}");
    assert!(
        environment.contains("east") && environment.contains("n1"),
        "{environment}"
    );

    server.put(settings(
        r#"{"global": {"hub": "second", "proxy": {"privileged": "perhaps"}}}"#,
    ));
    let page = until(pages, "/debug/findingsz", |p| p.contains("privileged")).await;
    let told = "ConfigMap istio-system/istio-sidecar-injector: data.values.global.proxy.privileged: ";
    assert!(page.contains(told), "{page}");
    assert!(injected(&running, "/inject").await.0.starts_with("first/"));
    server.put(settings(r#"{"global": {"hub": "third"}}"#));
    until(pages, "/debug/findingsz", |p| !p.contains("privileged")).await;
    assert!(injected(&running, "/inject").await.0.starts_with("third/"));

    let metrics = crate::common::get(pages, "/metrics").await;
    assert!(metrics.contains("# HELP sidecar_injection_success_total"), "{metrics}");
    running.wait(std::future::ready(())).await.expect("stops");
}

#[tokio::test]
async fn other_questions_are_answered_too() {
    let server = ApiServer::start().await;
    server.put(settings("{}"));
    let dir = tempfile::tempdir().expect("dir");
    let started = serve::start_in(on_a_cluster(dir.path()), Some(server.cluster("one"))).await;
    let running = started.expect("starts");
    for (method, path, body, expected) in [
        ("GET", "/inject", Bytes::new(), 405),
        ("POST", "/injection", Bytes::new(), 404),
        ("POST", "/validate", Bytes::from("{"), 400),
        ("POST", "/inject", Bytes::from(vec![b' '; (6 << 20) + 1]), 400),
    ] {
        let (status, _) = post(&running, method, path, body).await;
        assert_eq!(status, expected, "{method} {path}");
    }
    let (status, answer) = post(&running, "POST", "/inject", Bytes::from("{}")).await;
    assert_eq!(
        (status, &answer["response"]["allowed"]),
        (200, &json!(false)),
        "{answer}"
    );
    let bad = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "a", "namespace": "shop"}, "spec": {"host": 7}});
    let (_, answer) = post(&running, "POST", "/validate", review(&bad)).await;
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    running.wait(std::future::ready(())).await.expect("stops");
}
