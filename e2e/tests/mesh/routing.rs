//! Where requests go.

use crate::lab::{CATALOG, Lab, catalog_weights};

#[test]
fn canary_by_header_and_by_weight() {
    let Some(lab) = Lab::start("canary_by_header_and_by_weight", CATALOG) else {
        return;
    };
    assert_eq!(lab.version_2(50, ""), 0, "version 1 alone");

    lab.apply_lab("ch2/catalog-virtualservice-dark-v2.yaml");
    assert_eq!(lab.version_2(50, "--header x-dark-launch:v2"), 50);
    assert_eq!(lab.version_2(50, ""), 0);

    // Limits are five standard deviations and more away from the mean.
    for (v1, v2, expected) in [
        (0, 100, 400..=400),
        (50, 50, 140..=260),
        (90, 10, 10..=80),
        (100, 0, 0..=0),
    ] {
        lab.apply(&catalog_weights(v1, v2));
        let got = lab.version_2(400, "");
        assert!(expected.contains(&got), "{v1}/{v2}: {got} of 400");
    }
}

#[test]
fn webapp_behind_the_ingress_gateway() {
    let labs = [
        "services/catalog.yaml",
        "services/webapp.yaml",
        "ch2/ingress-gateway.yaml",
    ];
    let Some(lab) = Lab::start("webapp_behind_the_ingress_gateway", &labs) else {
        return;
    };
    let answer = lab.ingress("webapp", "/api/catalog/items/1", &[]).expect("an answer");
    assert_eq!(answer.json().expect("JSON")["name"], "Elinor Glasses");
    assert!(
        answer
            .header("server")
            .is_some_and(|server| server.contains("istio-envoy")),
        "{:?}",
        answer.headers
    );

    lab.apply(&answer_with("www.example.com"));
    let status = |host: &str| lab.ingress(host, "/api/catalog", &[]).expect("an answer").status;
    assert_eq!(status("webapp"), 404, "another host is unknown");
    assert_eq!(status("www.example.com"), 200);
}

fn answer_with(host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: webapp-virtualservice}}\nspec:\n  hosts: [{host}]\n  \
         gateways: [outfitters-gateway]\n  http: [{{route: [{{destination: {{host: webapp, port: {{number: 80}}}}}}]}}]\n"
    )
}

#[test]
fn requests_are_matched_and_changed() {
    let more = r#"
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  containers: [{name: echo, image: kennethreitz/httpbin, ports: [{containerPort: 80}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo]
  http:
  - match: [{uri: {prefix: /old}}]
    rewrite: {uri: /new}
    headers:
      request: {set: {x-set: by-route}, remove: [x-gone]}
      response: {add: {x-seen: "yes"}}
    route: [{destination: {host: echo}}]
  - match: [{uri: {exact: /moved}, method: {exact: GET}}]
    redirect: {uri: /there, redirectCode: 302}
  - match: [{queryParams: {slow: {exact: "1"}}}]
    timeout: 300ms
    route: [{destination: {host: echo}}]
  - route: [{destination: {host: echo}}]
"#;
    let Some(lab) = Lab::start_with("requests_are_matched_and_changed", &[], more) else {
        return;
    };
    let to = (lab.mesh.service_address("echo.istioinaction").expect("an address"), 80).into();
    let get = |path: &str| {
        let headers = vec![
            ("x-gone".to_owned(), "1".to_owned()),
            ("x-kept".to_owned(), "1".to_owned()),
        ];
        lab.mesh.http_from(
            "inside",
            e2e::runner::Call {
                authority: "echo".to_owned(),
                headers,
                ..e2e::runner::Call::get(to, path)
            },
        )
    };
    let old = get("/old/x").expect("an answer");
    assert_eq!((old.status, old.header("x-seen").as_deref()), (200, Some("yes")));
    let shown = old.json().expect("JSON");
    assert!(
        shown["url"].as_str().is_some_and(|url| url.ends_with("/new/x")),
        "{shown}"
    );
    assert_eq!(
        (&shown["headers"]["x-set"], shown["headers"].get("x-gone")),
        (&"by-route".into(), None),
        "{shown}"
    );
    assert_eq!(shown["headers"]["x-kept"], "1");
    let moved = get("/moved").expect("an answer");
    assert_eq!(moved.status, 302);
    assert!(
        moved.header("location").is_some_and(|l| l.ends_with("/there")),
        "{:?}",
        moved.headers
    );
    assert_eq!(get("/delay/5?slow=1").expect("an answer").status, 504);
    let plain = get("/anything").and_then(|a| a.json()).expect("JSON");
    assert_eq!(plain["headers"].get("x-set"), None, "{plain}");
    assert!(plain["headers"]["x-request-id"].is_string(), "{plain}");
}
