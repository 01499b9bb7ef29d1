//! What is written into a cluster.

use mesh_api::ca::IstioCertificateRequest;
use mesh_api::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_control::serve;
use serde_json::{Value, json};
use tonic::transport::Endpoint;
use tonic::{Code, Request};

use crate::api_server::ApiServer;
use crate::webhooks::on_a_cluster;

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

#[tokio::test]
async fn replicas_share_one_ca_and_one_of_them_writes() {
    let server = ApiServer::start().await;
    server.put(namespace("shop", &json!({"mesh": "yes"})));
    server.put(namespace("other", &json!({})));
    server.put(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "istiod-clusterrole-istio-system"}, "rules": []}),
    );
    server.put(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "discoverySelectors: [{matchLabels: {mesh: 'yes'}}]"}}),
    );
    let hook = |service: &str| {
        json!({"name": format!("{service}.example.com"), "clientConfig": {"service": {"name": service, "namespace": "istio-system"}},
            "admissionReviewVersions": ["v1"], "sideEffects": "None"})
    };
    server.put(
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "istio-sidecar-injector"}, "webhooks": [hook("other"), hook("istiod")]}),
    );
    let dirs = [tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir")];
    let mut replicas = Vec::new();
    for (dir, identity) in dirs.iter().zip(["one", "two"]) {
        let started = serve::start_in(on_a_cluster(dir.path()), Some(server.cluster(identity))).await;
        replicas.push(started.expect("starts"));
    }
    let roots: Vec<String> = replicas
        .iter()
        .map(|r| std::fs::read_to_string(&r.roots).expect("roots"))
        .collect();
    assert_eq!(roots[0], roots[1]);
    assert_eq!(server.writes("POST secrets"), 1);

    let written = server
        .until("configmaps", "shop", "istio-ca-root-cert", |m| m["data"].is_object())
        .await;
    assert_eq!(written["data"]["root-cert.pem"], roots[0].as_str());
    assert_eq!(
        written["metadata"]["ownerReferences"][0]["name"],
        "istiod-clusterrole-istio-system"
    );
    let hooks = server
        .until("mutatingwebhookconfigurations", "", "istio-sidecar-injector", |c| {
            c["webhooks"][1]["clientConfig"]["caBundle"].is_string()
        })
        .await;
    assert!(hooks["webhooks"][0]["clientConfig"]["caBundle"].is_null(), "{hooks}");
    assert!(
        server.get("configmaps", "other", "istio-ca-root-cert").is_none(),
        "it is not read"
    );
    server.put(namespace("late", &json!({"mesh": "yes"})));
    server
        .until("configmaps", "late", "istio-ca-root-cert", |m| m["data"].is_object())
        .await;
    assert_eq!(server.writes("PATCH configmaps"), 2);

    // Whoever held the lease gives it back, and the other goes on.
    let lease = server
        .get("leases", "istio-system", "mesh-control-leader")
        .expect("a lease");
    assert_eq!(
        lease["metadata"]["ownerReferences"],
        written["metadata"]["ownerReferences"]
    );
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    let first = usize::from(holder != "one");
    replicas
        .remove(first)
        .wait(std::future::ready(()))
        .await
        .expect("stops");
    server
        .until("leases", "istio-system", "mesh-control-leader", |l| {
            let now = l["spec"]["holderIdentity"].as_str().unwrap_or_default();
            !now.is_empty() && now != holder
        })
        .await;
    server.put(namespace("later", &json!({"mesh": "yes"})));
    server
        .until("configmaps", "later", "istio-ca-root-cert", |m| m["data"].is_object())
        .await;
    for replica in replicas {
        replica.wait(std::future::ready(())).await.expect("stops");
    }
}

#[tokio::test]
async fn the_api_server_says_whose_a_token_is() {
    let server = ApiServer::start().await;
    let dir = tempfile::tempdir().expect("dir");
    let started = serve::start_in(on_a_cluster(dir.path()), Some(server.cluster("one"))).await;
    let running = started.expect("starts");
    let endpoint = Endpoint::from_shared(format!("http://{}", running.grpc)).expect("an address");
    let channel = endpoint.connect().await.expect("connects");
    let ask = async |token: &str| {
        let key = rcgen::KeyPair::generate().expect("key");
        let csr = rcgen::CertificateParams::default();
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.serialize_request(&key).expect("csr").pem().expect("pem"),
            validity_duration: 3600,
            metadata: None,
        });
        let bearer = format!("Bearer {token}").parse().expect("ascii");
        request.metadata_mut().insert("authorization", bearer);
        IstioCertificateServiceClient::new(channel.clone())
            .create_certificate(request)
            .await
    };
    let signed = ask("shop/web").await.expect("signed").into_inner();
    let leaf = x509_parser::pem::parse_x509_pem(signed.cert_chain[0].as_bytes())
        .expect("pem")
        .1;
    let leaf = leaf.parse_x509().expect("a certificate");
    let names = leaf.subject_alternative_name().expect("readable").expect("names");
    let name = names.value.general_names[0].to_string();
    assert_eq!(name, "URI(spiffe://cluster.local/ns/shop/sa/web)");
    let refused = ask("stolen").await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("not a token"), "{refused}");
    running.wait(std::future::ready(())).await.expect("stops");
}

#[tokio::test]
async fn objects_are_told_what_became_of_them_once() {
    let server = ApiServer::start().await;
    let rule = |host: Value| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "web", "namespace": "shop"}, "spec": {"host": host}})
    };
    server.put(rule(json!(7)));
    let dir = tempfile::tempdir().expect("dir");
    let started = serve::start_in(on_a_cluster(dir.path()), Some(server.cluster("one"))).await;
    let running = started.expect("starts");
    let condition = |object: &Value| object["status"]["conditions"][0].clone();
    let refused = server
        .until("destinationrules", "shop", "web", |o| condition(o)["status"] == "False")
        .await;
    let told = condition(&refused);
    assert_eq!(
        (&told["type"], &told["reason"]),
        (&json!("Accepted"), &json!("Invalid"))
    );
    assert!(
        told["message"].as_str().unwrap_or_default().starts_with("spec.host: "),
        "{told}"
    );
    assert_eq!(told["observedGeneration"], 1);

    server.put(rule(json!("web.example.com")));
    let accepted = server
        .until("destinationrules", "shop", "web", |o| condition(o)["status"] == "True")
        .await;
    assert_eq!(condition(&accepted)["observedGeneration"], 2);
    // What is written later finds the other as it was.
    server.put(
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "z", "namespace": "shop"}, "spec": {"host": "z.example.com"}}),
    );
    server
        .until("destinationrules", "shop", "z", |o| condition(o)["status"] == "True")
        .await;
    assert_eq!(server.writes("PATCH destinationrules/status"), 3);
    running.wait(std::future::ready(())).await.expect("stops");
}

#[tokio::test]
async fn gateways_that_were_made_before_the_webhook_are_made_anew() {
    let server = ApiServer::start().await;
    server.put(namespace("istio-system", &json!({})));
    let pod = |name: &str, image: &str, inject: &str, controlled: bool| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "istio-system", "labels": {"sidecar.istio.io/inject": "true", "for": inject},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "of", "uid": "1", "controller": controlled}]},
            "spec": {"containers": [{"name": "istio-proxy", "image": image}]}})
    };
    for (name, image, inject, controlled) in [
        ("waits", "auto", "us", true),
        ("injected", "proxy:1", "us", true),
        ("alone", "auto", "us", false),
        ("of-another", "auto", "others", true),
    ] {
        server.put(pod(name, image, inject, controlled));
    }
    let dir = tempfile::tempdir().expect("dir");
    let replica = serve::start_in(on_a_cluster(dir.path()), Some(server.cluster("one")))
        .await
        .expect("starts");
    let there = |name: &str| server.get("pods", "istio-system", name).is_some();
    // As Helm does: the webhook comes last.
    assert!(there("waits"));
    server.put(
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "istio-sidecar-injector"}, "webhooks": [{"name": "object.example.com",
            "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system"}},
            "objectSelector": {"matchLabels": {"for": "us"}},
            "admissionReviewVersions": ["v1"], "sideEffects": "None"}]}),
    );
    server.until("pods", "istio-system", "waits", Value::is_null).await;
    for name in ["injected", "alone", "of-another"] {
        assert!(there(name), "{name}");
    }
    replica.wait(std::future::ready(())).await.expect("stops");
}
