//! Where requests go.

use crate::lab::Lab;

const CATALOG: &[&str] = &[
    "services/catalog.yaml",
    "services/catalog-deployment-v2.yaml",
    "ch2/catalog-destinationrule.yaml",
    "ch2/catalog-virtualservice-all-v1.yaml",
];

fn weights(v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: catalog}}\nspec:\n  hosts: [catalog]\n  http:\n  - route:\n    \
         - {{destination: {{host: catalog, subset: version-v1}}, weight: {v1}}}\n    - {{destination: {{host: catalog, subset: version-v2}}, weight: {v2}}}\n"
    )
}

#[test]
fn canary_by_header_and_by_weight() {
    let Some(lab) = Lab::start("canary_by_header_and_by_weight", CATALOG) else {
        return;
    };
    lab.until("version 1 alone", || lab.try_version_2(10, "") == Ok(0));

    lab.apply_lab("ch2/catalog-virtualservice-dark-v2.yaml");
    let dark = "--header x-dark-launch:v2";
    lab.until("the header leads to version 2", || lab.try_version_2(1, dark) == Ok(1));
    assert_eq!(lab.version_2(50, dark), 50);
    assert_eq!(lab.version_2(50, ""), 0);

    lab.apply(&weights(0, 100));
    lab.until("version 2 alone", || lab.try_version_2(10, "") == Ok(10));
    lab.apply(&weights(50, 50));
    lab.until("both versions", || {
        lab.try_version_2(20, "").is_ok_and(|v2| (1..20).contains(&v2))
    });
    let half = lab.version_2(400, "");
    assert!((140..=260).contains(&half), "{half} of 400");
    lab.apply(&weights(90, 10));
    lab.until("mostly version 1", || lab.try_version_2(60, "").is_ok_and(|v2| v2 < 20));
    let tenth = lab.version_2(400, "");
    assert!((10..=80).contains(&tenth), "{tenth} of 400");
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
    lab.until("the gateway serves", || {
        lab.ingress("webapp", "/api/catalog/items/1", &[])
            .is_ok_and(|a| a.status == 200)
    });
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
    lab.until("another host is unknown", || {
        lab.ingress("webapp", "/", &[]).is_ok_and(|a| a.status == 404)
    });
    assert_eq!(
        lab.ingress("www.example.com", "/api/catalog", &[])
            .expect("an answer")
            .status,
        200
    );
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
    lab.until("the route is there", || {
        get("/old/x").is_ok_and(|a| a.status == 200 && a.header("x-seen").is_some())
    });
    let shown = get("/old/x").and_then(|a| a.json()).expect("JSON");
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
