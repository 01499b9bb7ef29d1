use serde_json::json;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn meta(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> PodMeta {
    PodMeta {
        labels: map(labels),
        annotations: map(annotations),
    }
}

#[test]
fn injection_follows_istios_table() {
    let enabled = map(&[("istio-injection", "enabled")]);
    let disabled = map(&[("istio-injection", "disabled")]);
    let silent = map(&[]);
    let (yes, no) = (
        ("sidecar.istio.io/inject", "true"),
        ("sidecar.istio.io/inject", "false"),
    );
    let cases = [
        (&enabled, meta(&[], &[]), Injection::Sidecar),
        (&enabled, meta(&[no], &[]), Injection::None),
        (&enabled, meta(&[], &[no]), Injection::None),
        (&enabled, meta(&[yes], &[no]), Injection::Sidecar),
        (&disabled, meta(&[yes], &[]), Injection::None),
        (&silent, meta(&[], &[]), Injection::None),
        (&silent, meta(&[yes], &[]), Injection::Sidecar),
        (
            &silent,
            meta(&[yes], &[("inject.istio.io/templates", "gateway")]),
            Injection::Gateway,
        ),
    ];
    for (namespace, pod, expected) in cases {
        assert_eq!(injection(namespace, &pod), expected, "{namespace:?} {pod:?}");
    }
}

struct NoConfigs;

impl Configs for NoConfigs {
    fn value(&self, kind: &str, _: &str, name: &str, key: &str) -> Option<String> {
        (kind == "ConfigMap" && name == "known").then(|| format!("value of {key}"))
    }
}

fn plan(spec: Value) -> Result<PodPlan> {
    let spec: PodSpec = serde_json::from_value(spec).expect("a pod spec");
    let meta: ObjectMeta =
        serde_json::from_value(json!({"labels": {"app": "web", "version": "v2"}, "annotations": {"a/b": "c"}}))
            .expect("metadata");
    let owner = Owner {
        resource: "deployments",
        name: "web",
        namespace: "shop",
    };
    pod(owner, "web-1", &meta, &spec, &map(&[("istio-injection", "enabled")]))
}

#[test]
fn environment_references_are_resolved() {
    let plan = plan(json!({"serviceAccountName": "web-sa", "containers": [{
        "name": "web", "image": "fake-service:v0.17.0", "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a/b']"}}},
            {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "known", "key": "k"}}},
        ]}]}))
    .expect("valid");
    let apps = plan.apps(IpAddr::from([10, 244, 1, 2]), &NoConfigs).expect("resolved");
    let env: BTreeMap<_, _> = apps[0].env.iter().cloned().collect();
    for (name, value) in [
        ("PLAIN", "x"),
        ("NS", "shop"),
        ("IP", "10.244.1.2"),
        ("APP", "web"),
        ("NOTE", "c"),
        ("MAP", "value of k"),
        ("HOSTNAME", "web-1"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(apps[0].ports, [8080]);
    assert_eq!(plan.service_account, "web-sa");
    assert_eq!(plan.owner, "kubernetes://apis/apps/v1/namespaces/shop/deployments/web");
    let labels = &plan.meta.labels;
    assert_eq!(labels["service.istio.io/canonical-name"], "web");
    assert_eq!(labels["service.istio.io/canonical-revision"], "v2");
    assert_eq!(labels["security.istio.io/tlsMode"], "istio");
}

#[test]
fn what_cannot_run_is_refused_with_its_place() {
    let missing = plan(json!({"containers": [{"name": "web", "image": "fake-service",
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}))
    .expect("valid")
    .apps(IpAddr::from([127, 0, 0, 1]), &NoConfigs)
    .expect_err("no such Secret");
    assert!(
        format!("{missing:#}").contains("container web: env A: Secret shop/s with key k"),
        "{missing:#}"
    );
    let image = plan(json!({"containers": [{"name": "db", "image": "mysql:8"}]})).expect_err("no such image");
    assert!(
        format!("{image:#}").contains("container db: image \"mysql:8\""),
        "{image:#}"
    );
    assert!(plan(json!({"containers": []})).is_err());
}

#[test]
fn pods_are_on_the_node_that_they_name() {
    let on = |spec: Value| {
        plan(spec)
            .expect("valid")
            .object(IpAddr::from([10, 244, 1, 2]), true, "Pod")
    };
    let containers = json!([{"name": "web", "image": "fake-service"}]);
    assert_eq!(on(json!({"containers": containers}))["spec"]["nodeName"], "local");
    let named = on(json!({"nodeName": "node-a", "containers": containers}));
    assert_eq!(named["spec"]["nodeName"], "node-a");
}

#[test]
fn published_pods_say_whether_they_are_ready() {
    let plan = plan(json!({"containers": [{"name": "web", "image": "fake-service"}]})).expect("valid");
    let object = plan.object(IpAddr::from([10, 244, 1, 2]), true, "ReplicaSet");
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("Pod"), &json!("v1")));
    assert_eq!(object["status"]["podIP"], "10.244.1.2");
    assert_eq!(
        object["status"]["conditions"][3],
        json!({"type": "Ready", "status": "True"})
    );
    assert_eq!(object["spec"]["serviceAccountName"], "default");
    let object = plan.object(IpAddr::from([10, 244, 1, 2]), false, "Pod");
    assert_eq!(object["status"]["conditions"][3]["status"], "False");
    assert!(object["metadata"].get("ownerReferences").is_none());
}
