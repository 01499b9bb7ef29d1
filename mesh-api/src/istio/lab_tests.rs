//! Manifests as people write them must be read unchanged, without a warning.

use serde_json::{Value, json};

use super::parse;

const ROUTING: &str = r#"
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: outfitters-gateway
  namespace: istioinaction
spec:
  selector:
    istio: ingressgateway # use istio default controller
  servers:
  - port:
      number: 80
      name: http
      protocol: HTTP
    hosts:
    - "*"
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: webapp-virtualservice
  namespace: istioinaction
spec:
  hosts:
  - "*"
  gateways:
  - outfitters-gateway
  http:
  - route:
    - destination:
        host: webapp
        port:
          number: 80
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: catalog
spec:
  host: catalog
  subsets:
  - name: version-v1
    labels:
      version: v1
  - name: version-v2
    labels:
      version: v2
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: catalog
spec:
  hosts:
  - catalog
  http:
  - match:
    - headers:
        x-dark-launch:
          exact: "v2"
    route:
    - destination:
        host: catalog
        subset: version-v2
  - route:
    - destination:
        host: catalog
        subset: version-v1
    retries:
      attempts: 3
      retryOn: 5xx,retriable-status-codes
      perTryTimeout: 2s
    timeout: 0.5s
"#;

const RESILIENCE: &str = r#"
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: simple-backend-dr
spec:
  host: simple-backend.istioinaction.svc.cluster.local
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 1
      http:
        http1MaxPendingRequests: 1
        maxRequestsPerConnection: 1
        maxRetries: 1
        http2MaxRequests: 1
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: simple-backend-dr
spec:
  host: simple-backend.istioinaction.svc.cluster.local
  trafficPolicy:
    loadBalancer:
      simple: LEAST_CONN
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: simple-backend-dr
spec:
  host: simple-backend.istioinaction.svc.cluster.local
  trafficPolicy:
    loadBalancer:
      localityLbSetting:
        distribute:
        - from: us-west1/us-west1-a/*
          to:
            "us-west1/us-west1-a/*": 70
            "us-west1/us-west1-b/*": 30
    connectionPool:
      http:
        http2MaxRequests: 10
        maxRequestsPerConnection: 10
    outlierDetection:
      consecutive5xxErrors: 1
      interval: 5s
      baseEjectionTime: 30s
      maxEjectionPercent: 100
"#;

const PATCHES: &str = r#"
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: simple-backend-retry-budget
  namespace: istioinaction
spec:
  workloadSelector:
    labels:
      app: simple-web
  configPatches:
  - applyTo: CLUSTER
    match:
      context: SIDECAR_OUTBOUND
      cluster:
        portNumber: 80
        service: simple-backend.istioinaction.svc.cluster.local
    patch:
      operation: MERGE
      value:
        circuit_breakers:
          thresholds:
            - retry_budget:
                budget_percent:
                  value: 20.0
                min_retry_concurrency: 5
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: simple-backend-retry-status-codes
  namespace: istioinaction
spec:
  workloadSelector:
    labels:
      app: simple-web
  configPatches:
  - applyTo: HTTP_ROUTE
    match:
      context: SIDECAR_OUTBOUND
      routeConfiguration:
        vhost:
          name: "simple-backend.istioinaction.svc.cluster.local:80"
    patch:
      operation: MERGE
      value:
        route:
          retry_policy:
            retry_back_off:
              base_interval: 50ms
            retriable_status_codes:
            - 408
            - 400
"#;

const WORKLOADS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata:
  name: catalog
---
apiVersion: v1
kind: Service
metadata:
  labels:
    app: catalog
  name: catalog
spec:
  ports:
  - name: http
    port: 80
    protocol: TCP
    targetPort: 3000
  selector:
    app: catalog
---
apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    app: catalog
    version: v1
  name: catalog
spec:
  replicas: 1
  selector:
    matchLabels:
      app: catalog
      version: v1
  template:
    metadata:
      labels:
        app: catalog
        version: v1
    spec:
      serviceAccountName: catalog
      containers:
      - env:
        - name: KUBERNETES_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        image: istioinaction/catalog:latest
        imagePullPolicy: IfNotPresent
        name: catalog
        ports:
        - containerPort: 3000
          name: http
          protocol: TCP
        securityContext:
          privileged: false
"#;

#[test]
fn manifests_are_read_unchanged() {
    for (name, text) in [
        ("routing", ROUTING),
        ("resilience", RESILIENCE),
        ("patches", PATCHES),
        ("workloads", WORKLOADS),
    ] {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        assert!(documents.len() > 1, "{name}");
        for document in documents {
            let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
            let object = parse(&text("apiVersion"), &text("kind"), document.clone()).unwrap();
            assert_eq!(object.warnings(), [], "{name}: {} {}", object.kind(), object.name());
        }
    }
}

/// Whatever stands in the place of a value: an object or errors with paths, and no panic.
#[test]
fn nothing_that_is_written_causes_a_panic() {
    fn pointers(value: &Value, here: &str, out: &mut Vec<String>) {
        out.push(here.to_owned());
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    pointers(
                        inner,
                        &format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")),
                        out,
                    );
                }
            }
            Value::Array(list) => {
                for (i, inner) in list.iter().enumerate() {
                    pointers(inner, &format!("{here}/{i}"), out);
                }
            }
            _ => {}
        }
    }
    let strange = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("*"),
        json!("ä/ö:-1\u{0}"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"": {"": null}}),
    ];
    for text in [ROUTING, RESILIENCE, PATCHES, WORKLOADS] {
        for document in serde_saphyr::from_multiple::<Value>(text).unwrap() {
            let mut places = Vec::new();
            pointers(&document, "", &mut places);
            for place in places {
                for value in &strange {
                    let mut changed = document.clone();
                    *changed.pointer_mut(&place).unwrap() = value.clone();
                    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
                    if let Err(errors) = parse(&text("apiVersion"), &text("kind"), changed) {
                        assert!(
                            errors.iter().all(|e| !e.path.is_empty() && !e.message.is_empty()),
                            "{place} {value}"
                        );
                    }
                }
            }
        }
    }
}

/// Reads every manifest of a folder, for a check by hand: `LAB_DIR=… cargo test -p mesh-api -- --ignored folder`.
#[test]
#[ignore = "needs LAB_DIR"]
fn folder_is_read_unchanged() {
    let mut folders = vec![std::path::PathBuf::from(std::env::var("LAB_DIR").unwrap())];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(&path).unwrap()).unwrap();
            for document in documents.into_iter().filter(|d| d["kind"].is_string()) {
                let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
                match parse(&text("apiVersion"), &text("kind"), document.clone()) {
                    Ok(object) => println!("{}: {} {:?}", path.display(), object.kind(), object.warnings()),
                    Err(errors) => panic!("{}: {errors:#?}", path.display()),
                }
            }
        }
    }
}
