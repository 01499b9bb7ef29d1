//! Pods and Services that have IPv6 addresses alone.

use std::net::SocketAddr;

use e2e::netns::Family;
use e2e::runner::Call;

use crate::lab::Lab;
use crate::metrics::{MERGED, OWN};
use crate::protocols::{ECHO, all_protocols};
use crate::security::mode;

/// A server without a sidecar, and a client whose name look-ups are captured.
const OTHERS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: default}
spec:
  containers:
  - {name: web, image: httpbin, env: [{name: LISTEN_ADDR, value: '[::]:80'}], ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: asking
  annotations:
    proxy.istio.io/config: |
      proxyMetadata:
        ISTIO_META_DNS_CAPTURE: "true"
spec:
  containers: [{name: shell, image: nicolaka/netshoot}]
"#;

/// A host without an address: whoever captures DNS is given one that was made up.
fn entry(endpoint: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: elsewhere}}\nspec:\n  \
         hosts: [only-in-the-mesh.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: tcp, protocol: TCP}}]\n  \
         endpoints: [{{address: '{}', ports: {{tcp: {}}}}}]\n",
        endpoint.ip(),
        endpoint.port()
    )
}

#[test]
fn by_redirection() {
    scenario("ipv6::by_redirection", "REDIRECT");
}

#[test]
fn by_transparent_interception() {
    scenario("ipv6::by_transparent_interception", "TPROXY");
}

fn scenario(test: &str, interception: &str) {
    let echo = ECHO.replace("0.0.0.0", "[::]").replace(
        "annotations: {}",
        &format!("annotations: {{sidecar.istio.io/interceptionMode: {interception}}}"),
    );
    let more = format!("{echo}---{OTHERS}");
    let Some(lab) = Lab::start_in(Family::V6, test, &[], &more) else {
        return;
    };
    all_protocols(&lab);

    // Pages that Prometheus and the kubelet ask for from outside of the pod.
    let pod = lab.mesh.pod("echo").expect("a pod").ip;
    for (port, path) in [
        (15021, "/healthz/ready"),
        (MERGED, "/stats/prometheus"),
        (OWN, "/stats/prometheus"),
    ] {
        let answer = lab.mesh.http(Call::get((pod, port).into(), path)).expect("an answer");
        assert_eq!(answer.status, 200, "port {port}");
    }
    let clusters = lab.mesh.admin("inside", "/clusters").expect("an answer").text();
    let endpoint = SocketAddr::new(pod, 8080);
    assert!(
        clusters.contains(&format!(
            "outbound|80||echo.istioinaction.svc.cluster.local::{endpoint}::"
        )),
        "{clusters}"
    );

    // An address that nobody knows is passed on to, with its original destination.
    let served = |from: &str, host: &str| lab.client(from, &format!("load http://{host}/ --requests 1"))["ok"] == 1;
    let plain = SocketAddr::new(lab.mesh.pod("plain").expect("a pod").ip, 80);
    assert!(served("inside", &plain.to_string()), "passed through");

    // The DNS proxy answers with IPv6, for Services and for a host whose address the control plane makes up.
    lab.apply(&entry(plain));
    lab.until("the proxy answers for the ServiceEntry", || {
        served("asking", "only-in-the-mesh.example")
    });
    assert!(served("asking", "echo"), "and for Services");
    assert!(
        !served("inside", "only-in-the-mesh.example"),
        "without capture the name is unknown"
    );

    // Mutual TLS: plaintext is served until it must not be.
    assert!(served("outside", "echo.istioinaction"));
    lab.apply(&mode("STRICT"));
    lab.until("plaintext is refused", || !served("outside", "echo.istioinaction"));
    assert!(served("inside", "echo"));
}
