//! The ingress gateway that comes with a mesh: made when a Gateway object asks for one.

use super::objects::Object;

/// Deployment and Service of the gateway, as Istio's charts have them. The proxy listens on the Service's own ports, since
/// nothing stands before it.
pub const OBJECTS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata:
  name: istio-ingressgateway
  namespace: istio-system
---
apiVersion: v1
kind: Service
metadata:
  name: istio-ingressgateway
  namespace: istio-system
  labels: {app: istio-ingressgateway, istio: ingressgateway}
spec:
  type: LoadBalancer
  selector: {app: istio-ingressgateway, istio: ingressgateway}
  ports:
  - {name: status-port, port: 15021, protocol: TCP, targetPort: 15021}
  - {name: http2, port: 80, protocol: TCP, targetPort: 80}
  - {name: https, port: 443, protocol: TCP, targetPort: 443}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: istio-ingressgateway
  namespace: istio-system
  labels: {app: istio-ingressgateway, istio: ingressgateway}
spec:
  replicas: 1
  selector:
    matchLabels: {app: istio-ingressgateway, istio: ingressgateway}
  template:
    metadata:
      labels:
        app: istio-ingressgateway
        istio: ingressgateway
        sidecar.istio.io/inject: "true"
      annotations:
        inject.istio.io/templates: gateway
    spec:
      serviceAccountName: istio-ingressgateway
      containers:
      - name: istio-proxy
        image: auto
"#;

/// Whether an object is a Gateway that the built-in gateway is to serve.
pub fn wants_one(object: &Object) -> bool {
    let istio = object.document["apiVersion"]
        .as_str()
        .is_some_and(|v| v.starts_with("networking.istio.io/"));
    let selector = object.document.pointer("/spec/selector/istio").and_then(|v| v.as_str());
    object.key.kind == "Gateway" && istio && selector == Some("ingressgateway")
}

#[cfg(test)]
mod tests {
    use super::super::objects::read;
    use super::*;

    #[test]
    fn only_gateways_that_select_it_bring_it() {
        let gateway = |selector: &str| {
            let text = format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec: {{selector: {{istio: {selector}}}}}"
            );
            read(&text, "default").expect("valid").remove(0)
        };
        assert!(wants_one(&gateway("ingressgateway")));
        assert!(!wants_one(&gateway("my-gateway")));
        assert!(
            read(OBJECTS, "default")
                .expect("valid")
                .iter()
                .all(|object| !wants_one(object))
        );
    }
}
