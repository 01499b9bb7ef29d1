use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::decide::{required, webhook_of};
use super::document::inject_documents;
use super::review::{environment, review};
use super::*;

fn settings(config: &str) -> Settings {
    Settings::parse(config, "{}").expect("settings")
}

pub(super) fn run(settings: &Settings, native: bool, pod: &Value) -> Result<Outcome, InjectError> {
    let mesh = MeshConfig::default();
    let injector = Injector {
        settings,
        mesh: &mesh,
        proxy_configs: &[],
        native_sidecars: native,
    };
    let request = Request {
        namespace: "shop".to_owned(),
        ..Request::default()
    };
    inject(&injector, &request, pod)
}

pub(super) fn injected(native: bool, pod: &Value) -> (Value, Vec<String>) {
    match run(&Settings::default(), native, pod) {
        Ok(Outcome::Injected { pod, warnings }) => (pod, warnings),
        other => panic!("not injected: {other:?}"),
    }
}

fn labelled(labels: &Value, annotations: &Value) -> Value {
    json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [{"name": "web"}]}})
}

#[test]
fn the_pod_and_the_settings_decide() {
    let (yes, no, odd) = (
        json!({"sidecar.istio.io/inject": "true"}),
        json!({"sidecar.istio.io/inject": "false"}),
        json!({"sidecar.istio.io/inject": "yes"}),
    );
    let (none, app) = (json!({}), json!({"app": "web"}));
    let enabled = settings("policy: enabled");
    let disabled = settings("policy: disabled");
    let never = settings("neverInjectSelector: [{matchLabels: {x: y}}, {matchLabels: {app: web}}]");
    let always = settings("policy: disabled\nalwaysInjectSelector: [{matchLabels: {app: web}}]");
    let both =
        settings("alwaysInjectSelector: [{matchLabels: {app: web}}]\nneverInjectSelector: [{matchLabels: {app: web}}]");
    let empty = settings("neverInjectSelector: [{}]");
    for (settings, labels, annotations, expected) in [
        (&enabled, &none, &none, Ok(())),
        (&disabled, &none, &none, Err(Skip::Policy)),
        (&disabled, &yes, &none, Ok(())),
        (&disabled, &none, &yes, Ok(())),
        (&enabled, &no, &none, Err(Skip::Label)),
        (&enabled, &none, &no, Err(Skip::Annotation)),
        (&enabled, &yes, &no, Ok(())),
        (&enabled, &no, &yes, Err(Skip::Label)),
        (&enabled, &odd, &none, Ok(())),
        (&disabled, &odd, &none, Err(Skip::Policy)),
        (&never, &app, &none, Err(Skip::NeverSelector(1))),
        (&never, &app, &yes, Ok(())),
        (&always, &app, &none, Ok(())),
        (&always, &app, &no, Err(Skip::Annotation)),
        (&always, &none, &none, Err(Skip::Policy)),
        (&both, &app, &none, Err(Skip::NeverSelector(0))),
        (&empty, &app, &none, Ok(())),
    ] {
        let mut warnings = Vec::new();
        let decision = required(settings, "shop", &labelled(labels, annotations), &mut warnings);
        assert_eq!(decision, expected, "{labels} {annotations} {:?}", settings.policy);
        assert_eq!(warnings.len(), usize::from(*labels == odd), "{warnings:?}");
    }
    let pod = labelled(&yes, &none);
    for namespace in decide::IGNORED_NAMESPACES {
        let skip = Err(Skip::Namespace(namespace.to_owned()));
        assert_eq!(required(&enabled, namespace, &pod, &mut Vec::new()), skip);
    }
    let mut host = pod;
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(
        required(&enabled, "shop", &host, &mut Vec::new()),
        Err(Skip::HostNetwork)
    );
}

#[test]
fn the_api_server_asks_by_labels_of_namespace_and_pod() {
    let (injection, rev, inject) = ("istio-injection", "istio.io/rev", "sidecar.istio.io/inject");
    type Labels = &'static [(&'static str, &'static str)];
    let cases: [(&str, bool, Labels, Labels, Option<&str>); 20] = [
        ("", false, &[], &[], None),
        ("", false, &[("istio-injection", "enabled")], &[], Some("namespace")),
        (
            "",
            false,
            &[("istio-injection", "enabled")],
            &[("sidecar.istio.io/inject", "false")],
            None,
        ),
        (
            "",
            false,
            &[("istio-injection", "disabled")],
            &[("sidecar.istio.io/inject", "true")],
            None,
        ),
        ("", false, &[], &[("sidecar.istio.io/inject", "true")], Some("object")),
        (
            "",
            false,
            &[],
            &[("sidecar.istio.io/inject", "true"), ("istio.io/rev", "canary")],
            None,
        ),
        ("", false, &[("istio.io/rev", "default")], &[], Some("rev.namespace")),
        ("", false, &[("istio.io/rev", "canary")], &[], None),
        ("", true, &[], &[], Some("auto")),
        ("", true, &[("istio-injection", "disabled")], &[], None),
        ("", true, &[], &[("sidecar.istio.io/inject", "false")], None),
        ("canary", false, &[("istio-injection", "enabled")], &[], None),
        (
            "canary",
            false,
            &[("istio.io/rev", "canary")],
            &[],
            Some("rev.namespace"),
        ),
        (
            "canary",
            false,
            &[("istio.io/rev", "canary")],
            &[("sidecar.istio.io/inject", "false")],
            None,
        ),
        (
            "canary",
            false,
            &[("istio.io/rev", "canary"), ("istio-injection", "enabled")],
            &[],
            None,
        ),
        (
            "",
            false,
            &[("istio.io/rev", "canary"), ("istio-injection", "enabled")],
            &[],
            Some("namespace"),
        ),
        ("canary", false, &[], &[("istio.io/rev", "canary")], Some("rev.object")),
        (
            "canary",
            false,
            &[],
            &[("istio.io/rev", "canary"), ("sidecar.istio.io/inject", "false")],
            None,
        ),
        ("canary", false, &[], &[("sidecar.istio.io/inject", "true")], None),
        (
            "canary",
            false,
            &[("istio.io/rev", "stable")],
            &[("istio.io/rev", "canary")],
            None,
        ),
    ];
    for (revision, everywhere, namespace, pod, expected) in cases {
        let map = |labels: Labels| -> BTreeMap<String, String> {
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert!(
            namespace
                .iter()
                .chain(pod)
                .all(|(k, _)| [injection, rev, inject].contains(k))
        );
        let webhook = webhook_of(revision, everywhere, "shop", &map(namespace), &map(pod));
        let expected = expected.map(|name| format!("{name}.sidecar-injector.istio.io"));
        assert_eq!(
            webhook.map(str::to_owned),
            expected,
            "{revision:?} {namespace:?} {pod:?}"
        );
    }
    assert_eq!(
        webhook_of("", true, "kube-system", &BTreeMap::new(), &BTreeMap::new()),
        None
    );
}

pub(super) fn question(version: &str, object: &Value) -> Vec<u8> {
    json!({"apiVersion": format!("admission.k8s.io/{version}"), "kind": "AdmissionReview",
        "request": {"uid": "u-1", "namespace": "shop", "operation": "CREATE", "object": object}})
    .to_string()
    .into_bytes()
}

pub(super) fn ask(path: &str, body: &[u8]) -> Value {
    let (settings, mesh) = (Settings::default(), MeshConfig::default());
    let injector = Injector {
        settings: &settings,
        mesh: &mesh,
        proxy_configs: &[],
        native_sidecars: false,
    };
    let answer = review(&injector, |_| BTreeMap::new(), path, body);
    serde_json::from_slice(&answer).expect("JSON")
}

#[test]
fn reviews_of_both_versions_are_answered_by_a_patch() {
    use base64::Engine as _;
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-", "annotations": {"sidecar.istio.io/statsHistogramBins": "3"}},
        "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 80}]}], "volumes": [{"name": "own", "emptyDir": {}}]}});
    for version in ["v1", "v1beta1"] {
        let answer = ask(
            "/inject/cluster/east/net/n1/my_var/a--slash--b",
            &question(version, &pod),
        );
        assert_eq!(answer["apiVersion"], format!("admission.k8s.io/{version}"));
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)));
        assert_eq!(response["patchType"], "JSONPatch");
        assert_eq!(response["warnings"].as_array().map(Vec::len), Some(1), "{response}");
        let patch = base64::prelude::BASE64_STANDARD
            .decode(response["patch"].as_str().expect("a patch"))
            .expect("base64");
        let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch");
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch).expect("applied");
        let proxy = pod::find(&patched, "containers", "istio-proxy")
            .and_then(Value::as_object)
            .expect("a proxy");
        for (name, value) in [
            ("ISTIO_META_CLUSTER_ID", "east"),
            ("ISTIO_META_NETWORK", "n1"),
            ("MY_VAR", "a/b"),
            ("ISTIO_META_APP_CONTAINERS", "web"),
        ] {
            assert_eq!(pod::env_of(proxy, name), Some(value));
        }
        assert_eq!(patched["metadata"]["labels"]["topology.istio.io/network"], "n1");
    }
}

#[test]
fn what_is_left_alone_is_allowed_without_a_patch() {
    let pod = json!({"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}, "spec": {"containers": []}});
    let answer = ask("/inject", &question("v1", &pod));
    assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
}

#[test]
fn bad_requests_are_refused_with_the_reason() {
    let bad_port =
        json!({"metadata": {"annotations": {"status.sidecar.istio.io/port": "x"}}, "spec": {"containers": []}});
    let template =
        json!({"metadata": {"annotations": {"inject.istio.io/templates": "sidecar,mine"}}, "spec": {"containers": []}});
    let no_list = json!({"spec": {"containers": {"image": "x"}}});
    for (body, expected) in [
        (b"".to_vec(), "the request is no JSON"),
        (
            b"{\"kind\": \"AdmissionReview\"}".to_vec(),
            "the request is no AdmissionReview of admission.k8s.io/v1 and",
        ),
        (question("v2", &json!({})), "the request is no AdmissionReview"),
        (question("v1", &Value::Null), "the request has no object"),
        (
            question("v1", &json!({})),
            "no sidecar can be injected: no Pod: spec is missing",
        ),
        (
            question("v1", &no_list),
            "no sidecar can be injected: no Pod: spec.containers: invalid type: map",
        ),
        (
            question("v1", &bad_port),
            "no sidecar can be injected: annotation status.sidecar.istio.io/port: \"x\" is no port",
        ),
        (
            question("v1", &template),
            "no sidecar can be injected: template \"mine\" (annotation inject.istio.io/templates)",
        ),
    ] {
        let response = &ask("/inject", &body)["response"];
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert_eq!(response["allowed"], false);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn paths_set_variables() {
    let pairs = |path: &str| {
        environment(path)
            .into_iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
    };
    assert!(pairs("/inject").is_empty() && pairs("/inject/").is_empty() && pairs("").is_empty());
    assert_eq!(
        pairs("/inject/cluster/c1/net/n1/odd"),
        ["ISTIO_META_CLUSTER_ID=c1", "ISTIO_META_NETWORK=n1"]
    );
    assert_eq!(
        pairs("/inject/:ENV:cluster=c1:ENV:a=b=c:ENV:=x:ENV:y"),
        ["A=b=c", "ISTIO_META_CLUSTER_ID=c1"]
    );
}

#[test]
fn objects_set_the_proxy_and_the_annotation_stands_between_them() {
    let read = |spec: Value| serde_json::from_value::<istio::ProxyConfig>(spec).expect("a ProxyConfig");
    let objects = [
        (
            "istio-system".to_owned(),
            read(json!({"concurrency": 1, "environmentVariables": {"A": "mesh", "B": "mesh"}})),
        ),
        (
            "shop".to_owned(),
            read(json!({"environmentVariables": {"B": "shop", "C": "shop", "D": "shop"}})),
        ),
        ("shop".to_owned(), read(json!({"environmentVariables": {"B": "newer"}}))),
        (
            "shop".to_owned(),
            read(
                json!({"selector": {"matchLabels": {"app": "web"}}, "environmentVariables": {"D": "web"}, "image": {"imageType": "debug"}}),
            ),
        ),
        ("other".to_owned(), read(json!({"concurrency": 9}))),
    ];
    let (settings, mesh) = (Settings::default(), MeshConfig::default());
    let injector = Injector {
        settings: &settings,
        mesh: &mesh,
        proxy_configs: &objects,
        native_sidecars: false,
    };
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let text = "concurrency: 2\nproxyMetadata: {C: annotation, D: annotation}";
    let annotations = [(annotation::PROXY_CONFIG.to_owned(), text.to_owned())].into();
    let config = proxy_config(&injector, "shop", &labels, &annotations).expect("a config");
    let metadata: Vec<String> = config.proxy_metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(metadata, ["A=mesh", "B=shop", "C=annotation", "D=web"]);
    assert_eq!(
        (config.concurrency, config.image.map(|i| i.image_type)),
        (Some(2), Some("debug".to_owned()))
    );
}

#[test]
fn probes_that_cannot_be_rewritten_stay_and_are_said() {
    let named = json!({"httpGet": {"path": "/", "port": "nowhere"}});
    let agents = json!({"httpGet": {"path": "/healthz/ready", "port": 15020}});
    let pod = json!({"metadata": {}, "spec": {"containers": [
        {"name": "web", "readinessProbe": named, "livenessProbe": agents, "startupProbe": {"exec": {"command": ["true"]}}}]}});
    let (after, warnings) = injected(false, &pod);
    assert_eq!(
        pod::find(&after, "containers", "web"),
        pod::find(&pod, "containers", "web")
    );
    assert_eq!(
        warnings,
        ["container web: readinessProbe: the container has no port \"nowhere\"; the probe is left as it is"]
    );
}

#[test]
fn texts_keep_what_is_not_injected() {
    let text = "# first\n---\n# a comment\napiVersion: v1\nkind: Service\nmetadata: {name: web}   # kept\n---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {name: report, namespace: shop}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{name: main, image: x}]}}}}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: h}\nspec: {hostNetwork: true, containers: []}\n";
    let (settings, mesh) = (Settings::default(), MeshConfig::default());
    let injector = Injector {
        settings: &settings,
        mesh: &mesh,
        proxy_configs: &[],
        native_sidecars: false,
    };
    let out = inject_documents(&injector, "", text).expect("injected");
    assert!(out.text.starts_with(
        "# first\n---\n# a comment\napiVersion: v1\nkind: Service\nmetadata: {name: web}   # kept\n---\n"
    ));
    assert!(
        out.text.ends_with(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: h}\nspec: {hostNetwork: true, containers: []}\n"
        )
    );
    assert_eq!(
        out.messages,
        ["===> Skipping injection because of Pod \"h\": it is on the node's network (hostNetwork)"]
    );
    let documents: Vec<Value> = serde_saphyr::from_multiple(&out.text).expect("YAML");
    let job = documents.iter().find(|d| d["kind"] == "CronJob").expect("the job");
    let template = &job["spec"]["jobTemplate"]["spec"]["template"];
    let proxy = pod::find(template, "containers", "istio-proxy")
        .and_then(Value::as_object)
        .expect("a proxy");
    assert_eq!(
        pod::env_of(proxy, "ISTIO_META_OWNER"),
        Some("kubernetes://apis/batch/v1/namespaces/shop/cronjobs/report")
    );
    assert!(
        inject_documents(&injector, "", "a: b\n---\na: [\n")
            .expect_err("refused")
            .starts_with("document at line 3:")
    );
    let missing = "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: d}\n";
    assert_eq!(
        inject_documents(&injector, "", missing),
        Err("document at line 1: Deployment \"d\": spec.template is missing".to_owned())
    );
}

#[test]
fn always_that_kubernetes_made_of_image_auto_does_not_count() {
    let pod = |image: &str, policy: &str| {
        json!({"metadata": {"annotations": {"inject.istio.io/templates": "gateway"}}, "spec": {"containers": [
            {"name": "istio-proxy", "image": image, "imagePullPolicy": policy}]}})
    };
    let policy = |pod: &Value| {
        let (pod, _) = injected(false, pod);
        // The next injection finds the same.
        let again = injected(false, &pod).0;
        assert_eq!(again["spec"]["containers"][0], pod["spec"]["containers"][0]);
        pod["spec"]["containers"][0]["imagePullPolicy"].clone()
    };
    assert_eq!(policy(&pod("auto", "Always")), Value::Null);
    assert_eq!(policy(&pod("auto", "Never")), "Never");
    assert_eq!(policy(&pod("mine:1", "Always")), "Always");
}
