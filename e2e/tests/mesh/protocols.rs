//! What is spoken through two sidecars.

use crate::lab::Lab;

/// A service that echoes in every protocol.
pub(crate) const ECHO: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: http2-h2, port: 8081, targetPort: 8080}
  - {name: grpc, port: 8082, targetPort: 8080}
  - {name: tcp-echo, port: 9000}
  - {name: guess, port: 8083, targetPort: 8080}
---
apiVersion: v1
kind: Pod
metadata:
  name: echo
  labels: {app: echo}
  annotations: {}
spec:
  containers:
  - name: echo
    image: kennethreitz/httpbin
    env: [{name: LISTEN_ADDR, value: '0.0.0.0:8080'}, {name: TCP_LISTEN_ADDR, value: '0.0.0.0:9000'}]
    ports: [{containerPort: 8080}, {containerPort: 9000}]
"#;

pub(crate) fn all_protocols(lab: &Lab) {
    let all = serde_json::json!({"sent": 3, "received": 3, "error": null});
    for (what, load) in [
        ("HTTP/1.1", "load http://echo/"),
        ("HTTP/2", "load http://echo:8081/ --http2"),
        ("protocol detection, HTTP/1.1", "load http://echo:8083/"),
        ("protocol detection, HTTP/2", "load http://echo:8083/ --http2"),
    ] {
        let report = lab.client("inside", &format!("{load} --requests 5"));
        assert_eq!(report["ok"], 5, "{what}: {report:#}");
    }
    assert_eq!(lab.client("inside", "ws ws://echo/ws --messages 3"), all);
    assert_eq!(lab.client("inside", "grpc http://echo:8082 --messages 3"), all);
    let call = lab.client("inside", "grpc-call http://echo:8082 --code 9 --text not-now");
    assert_eq!(
        call,
        serde_json::json!({"code": 9, "text": "not-now"}),
        "a status in trailers"
    );
    assert_eq!(lab.client("inside", "tcp echo:9000 --messages 3"), all);
}

#[test]
fn http_grpc_websocket_and_tcp() {
    let Some(lab) = Lab::start_with("http_grpc_websocket_and_tcp", &[], ECHO) else {
        return;
    };
    all_protocols(&lab);
}

#[test]
fn transparent_interception() {
    let tproxy = ECHO.replace(
        "annotations: {}",
        "annotations: {sidecar.istio.io/interceptionMode: TPROXY}",
    );
    let Some(lab) = Lab::start_with("transparent_interception", &[], &tproxy) else {
        return;
    };
    all_protocols(&lab);
}

#[test]
fn dns_is_answered_in_the_pod() {
    let asking = r#"
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
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: elsewhere}
spec:
  hosts: [only-in-the-mesh.example]
  addresses: [240.240.7.7]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: ADDRESS}]
"#;
    let Some(lab) = Lab::start_with("dns_is_answered_in_the_pod", &[], ECHO) else {
        return;
    };
    let echo = lab.mesh.pod("echo").expect("a pod").ip.to_string();
    lab.apply(&asking.replace(
        "endpoints: [{address: ADDRESS}]",
        &format!("endpoints: [{{address: {echo}, ports: {{http: 8080}}}}]"),
    ));
    let found = |host: &str| lab.client("asking", &format!("load http://{host}/ --requests 1"))["ok"] == 1;
    // No name server but the proxy knows this name.
    assert!(
        found("only-in-the-mesh.example"),
        "the proxy answers for the ServiceEntry"
    );
    assert!(found("echo"), "and for Services");
    let other = lab.client("inside", "load http://only-in-the-mesh.example/ --requests 1");
    assert_eq!(other["ok"], 0, "without capture the name is unknown: {other}");
}
