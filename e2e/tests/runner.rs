//! The runner by itself: pods without sidecars, so that nothing but the runner and the control plane's start is needed.

use std::time::Duration;

use e2e::runner::{Call, Change, Injection, Mesh, Options};
use e2e::testing::{eventually, mesh_or_skip};

const LIMIT: Duration = Duration::from_secs(30);

const SHOP: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nicholasjackson/fake-service:v0.17.0
        env: [{name: LISTEN_ADDR, value: '0.0.0.0:80'}, {name: MESSAGE, value: one}]
        ports: [{name: http, containerPort: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers: [{name: shell, image: nicolaka/netshoot}]
";

/// Answers by a field of their headers or body.
fn spread(mesh: &Mesh, by: &str) -> serde_json::Value {
    let arguments = [
        "load",
        "http://web/",
        "--requests",
        "40",
        "--no-keep-alive",
        "--count-by",
        by,
    ];
    let report = mesh.client("client", &arguments).expect("a report");
    assert_eq!(report["ok"], 40, "{report}");
    report["by_value"].clone()
}

#[test]
fn deployments_services_and_pods() {
    let Some(mesh) = mesh_or_skip("deployments_services_and_pods", Options::default()) else {
        return;
    };
    let done = mesh.apply(SHOP).expect("applied");
    assert_eq!(done.len(), 3);
    mesh.wait_ready(LIMIT).expect("ready");
    assert!(mesh.pods().iter().all(|pod| pod.injection == Injection::None));
    assert_eq!(
        spread(&mesh, "header:x-pod-name").as_object().map(serde_json::Map::len),
        Some(2),
        "both pods answer"
    );

    let again = mesh.apply(SHOP).err().map(|error| format!("{error:#}"));
    assert!(again.is_none(), "the same objects change nothing: {again:?}");

    mesh.scale("default", "web", 1).expect("scaled");
    assert_eq!(
        spread(&mesh, "header:x-pod-name").as_object().map(serde_json::Map::len),
        Some(1)
    );

    let before = mesh.pod("web").expect("a pod").name;
    let deployment = SHOP
        .split("---")
        .nth(1)
        .expect("the Deployment")
        .replace("value: one", "value: two");
    let done = mesh.apply(&deployment).expect("applied");
    assert_eq!(done[0].1, Change::Configured);
    mesh.wait_ready(LIMIT).expect("ready");
    assert_ne!(mesh.pod("web").expect("a pod").name, before);
    assert_eq!(spread(&mesh, "json:/body"), serde_json::json!({"two": 40}));

    // By the short name, the long one, and from the host by address.
    for name in ["web", "web.default", "web.default.svc.cluster.local"] {
        let url = format!("http://{name}/");
        let report = mesh
            .client("client", &["load", &url, "--requests", "1"])
            .expect("a report");
        assert_eq!(report["ok"], 1, "{name}: {report}");
    }
    let address = (mesh.service_address("web").expect("an address"), 80).into();
    assert_eq!(mesh.http(Call::get(address, "/")).expect("an answer").status, 200);

    mesh.delete("Deployment", "default", "web").expect("deleted");
    let report = mesh
        .client("client", &["load", "http://web/", "--requests", "1"])
        .expect("a report");
    assert_eq!(report["ok"], 0, "nobody is left: {report}");
    assert!(mesh.delete("Deployment", "default", "web").is_err());
}

#[test]
fn one_bad_object_does_not_keep_the_others_out() {
    let Some(mesh) = mesh_or_skip("one_bad_object_does_not_keep_the_others_out", Options::default()) else {
        return;
    };
    let text = format!(
        "{SHOP}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: db}}\nspec:\n  selector: {{matchLabels: {{app: db}}}}\n  \
         template:\n    metadata: {{labels: {{app: db}}}}\n    spec: {{containers: [{{name: db, image: 'mysql:8'}}]}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: lost, namespace: nowhere}}\nspec: {{}}\n"
    );
    let error = format!("{:#}", mesh.apply(&text).expect_err("two are wrong"));
    assert!(
        error.contains("Deployment default/db: container db: image \"mysql:8\""),
        "{error}"
    );
    assert!(error.contains("namespace \"nowhere\" does not exist"), "{error}");
    mesh.wait_ready(LIMIT).expect("ready");
    assert_eq!(mesh.pods().len(), 3);
}

#[test]
fn the_control_plane_can_be_killed_and_started_again() {
    let Some(mesh) = mesh_or_skip("the_control_plane_can_be_killed_and_started_again", Options::default()) else {
        return;
    };
    let ready = || mesh.control_http("/ready").is_ok_and(|answer| answer.status == 200);
    assert!(ready());
    mesh.kill_control();
    assert!(!ready());
    mesh.start_control().expect("started");
    eventually("the control plane is ready", LIMIT, ready);
}

#[test]
fn a_user_without_root_runs_a_mesh() {
    if e2e::testing::skips("a_user_without_root_runs_a_mesh") {
        return;
    }
    let folder = e2e::testing::programs();
    let labs = concat!(env!("CARGO_MANIFEST_DIR"), "/labs");
    let client = format!(
        "{}/e2e-sample client load http://$GATEWAY/api/catalog --requests 20 --count-by json:/0/name",
        folder.display()
    );
    // The gateway serves a moment after it is ready: its first routes may come before the pods that they lead to.
    let command = format!(
        "for try in 1 2 3 4 5 6 7 8 9 10; do out=$({client}); echo \"$out\" | grep -q '\"ok\": 20' && echo served && exit 0; sleep 0.5; done; echo \"$out\"; exit 1"
    );
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(folder.join("e2e-run"))
        .args(["up", "--namespace", "istioinaction", "--inject", "--exec", &command])
        .args([
            "--dir",
            &format!("{labs}/services/catalog.yaml"),
            &format!("{labs}/services/webapp.yaml"),
        ])
        .args(["--dir", &format!("{labs}/ch2/ingress-gateway.yaml")])
        .env("FERROMESH_BIN_DIR", &folder)
        .output()
        .expect("setpriv runs");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if said.contains("lets users have user namespaces") {
        return e2e::testing::left_out("a_user_without_root_runs_a_mesh", &said);
    }
    assert!(output.status.success() && said.contains("served"), "{said}");
}
