//! What a workload sees and what it listens on, as its Sidecar says; the way out by a gateway.

use std::net::{Ipv4Addr, SocketAddr};

use e2e::runner::{Answer, Call};

use crate::lab::Lab;

const ECHO: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 80}, {name: http-more, port: 9080, targetPort: 80}, {name: http-own, port: 81, targetPort: 9999}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  containers: [{name: echo, image: kennethreitz/httpbin, ports: [{containerPort: 80}]}]
"#;

/// A `GET` of the client with a sidecar, to an address that any host may have.
fn get(lab: &Lab, host: &str, to: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let call = Call {
        authority: host.to_owned(),
        ..Call::get(to, path)
    };
    lab.mesh.http_from("inside", call)
}

fn status(lab: &Lab, host: &str, port: u16) -> u16 {
    let address = lab
        .mesh
        .service_address(&format!("{host}.istioinaction"))
        .expect("an address");
    let path = if host == "echo" { "/status/418" } else { "/items/1" };
    get(lab, host, SocketAddr::new(address, port), path).map_or(0, |answer| answer.status)
}

#[test]
fn a_sidecar_says_what_its_workload_sees_and_listens_on() {
    let name = "a_sidecar_says_what_its_workload_sees_and_listens_on";
    let Some(lab) = Lab::start_with(name, &["services/catalog.yaml"], ECHO) else {
        return;
    };
    assert_eq!((status(&lab, "catalog", 80), status(&lab, "echo", 80)), (200, 418));

    // An entry with the address of the catalog takes nothing of its traffic.
    let address = lab.mesh.service_address("catalog.istioinaction").expect("an address");
    lab.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: thief}}\nspec:\n  hosts: [a.thief.example]\n  \
         addresses: [{address}]\n  resolution: STATIC\n  ports: [{{number: 80, name: tcp, protocol: TCP}}]\n  \
         endpoints: [{{address: 192.0.2.1}}]\n"
    ));
    assert_eq!(status(&lab, "catalog", 80), 200);

    lab.apply(
        r#"
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: inside}
spec:
  workloadSelector: {labels: {app: inside}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress:
  - port: {number: 9080, protocol: HTTP, name: bound}
    captureMode: NONE
    hosts: ["./*"]
  - hosts: ["./echo.istioinaction.svc.cluster.local"]
"#,
    );
    assert_eq!(status(&lab, "catalog", 80), 502, "it is not seen");
    assert_eq!(status(&lab, "echo", 80), 418);
    let bound = SocketAddr::from((Ipv4Addr::LOCALHOST, 9080));
    let answer = get(&lab, "echo", bound, "/status/418").expect("the listener is open");
    assert_eq!(answer.status, 418);

    // The other end's own ports.
    assert_eq!(status(&lab, "echo", 81), 503, "nobody listens there");
    lab.apply(
        r#"
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: echo}
spec:
  workloadSelector: {labels: {app: echo}}
  egress: [{hosts: ["./*"]}]
  ingress:
  - port: {number: 9999, protocol: HTTP, name: http}
    defaultEndpoint: 127.0.0.1:80
"#,
    );
    assert_eq!(status(&lab, "echo", 81), 418, "the application answers");
}

#[test]
fn requests_leave_by_the_egress_gateway() {
    let objects = r#"
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: default, labels: {app: far}}
spec:
  containers: [{name: far, image: kennethreitz/httpbin, ports: [{containerPort: 80}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: news, namespace: default}
spec:
  hosts: [edition.news.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  workloadSelector: {labels: {app: far}}
  ports: [{number: 80, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: https-out, protocol: HTTPS}
    hosts: [edition.news.example]
    tls: {mode: ISTIO_MUTUAL}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egress}
spec:
  host: istio-ingressgateway.istio-system.svc.cluster.local
  subsets:
  - name: news
    trafficPolicy:
      portLevelSettings:
      - port: {number: 80}
        tls: {mode: ISTIO_MUTUAL, sni: edition.news.example}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edition}
spec:
  hosts: [edition.news.example]
  gateways: [egress, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route:
    - destination: {host: istio-ingressgateway.istio-system.svc.cluster.local, subset: news, port: {number: 80}}
  - match: [{gateways: [egress], port: 80}]
    headers: {response: {set: {x-left-by: gateway}}}
    route:
    - destination: {host: edition.news.example, port: {number: 80}}
"#;
    let Some(lab) = Lab::start_with("requests_leave_by_the_egress_gateway", &[], objects) else {
        return;
    };
    let anywhere = SocketAddr::from(([192, 0, 2, 9], 80));
    let answer = get(&lab, "edition.news.example", anywhere, "/anything").expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-left-by").as_deref(), Some("gateway"));
}
