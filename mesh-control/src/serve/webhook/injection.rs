//! Injection as the API server asks for it: with the settings and objects in force.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_api::istio::{AnyObject, ProxyConfig};
use mesh_api::k8s::Node;

use super::NativeSidecars;
use crate::inject::{Injector, review};
use crate::serve::model::Snapshot;
use crate::store::Store;
use crate::store::rules::age;

/// Oldest minor version of Kubernetes 1 whose nodes run init containers that go on running.
const NATIVE_SINCE: u32 = 29;

/// What injection reads of the objects, beside its settings.
#[derive(Debug, Default)]
pub(in crate::serve) struct Facts {
    /// With their namespaces, the oldest first.
    proxy_configs: Vec<(String, ProxyConfig)>,
    namespaces: HashMap<String, Arc<AnyObject>>,
    /// All nodes run native sidecars.
    native: bool,
}

impl Facts {
    pub(in crate::serve) fn of(store: &Store) -> Self {
        let mut facts = Facts::default();
        let mut configs = Vec::new();
        let (mut nodes, mut able) = (0, 0);
        for object in store.objects() {
            match object.as_ref() {
                AnyObject::ProxyConfig(config) => configs.push(config),
                AnyObject::Namespace(_) => {
                    facts.namespaces.insert(object.name().to_owned(), object.clone());
                }
                AnyObject::Node(node) => {
                    nodes += 1;
                    able += usize::from(runs_native(&node.object));
                }
                _ => {}
            }
        }
        configs.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let configs = configs.into_iter().map(|c| (c.meta.namespace.clone(), c.spec.clone()));
        facts.proxy_configs = configs.collect();
        // Nobody knows of nodes that cannot be read.
        facts.native = nodes > 0 && able == nodes;
        facts
    }

    fn annotations(&self, namespace: &str) -> BTreeMap<String, String> {
        match self.namespaces.get(namespace).map(AsRef::as_ref) {
            Some(AnyObject::Namespace(space)) => space.object.metadata.annotations.clone().unwrap_or_default(),
            _ => BTreeMap::new(),
        }
    }
}

/// `v1.29.3-gke.100`.
fn runs_native(node: &Node) -> bool {
    let version = node.status.as_ref().and_then(|s| s.node_info.as_ref());
    let version = version.map_or("", |info| info.kubelet_version.as_str());
    let mut parts = version.trim_start_matches('v').split('.');
    let mut number = || {
        let part = parts.next()?;
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    };
    match (number(), number()) {
        (Some(1), Some(minor)) => minor >= NATIVE_SINCE,
        (Some(major), _) => major > 1,
        _ => false,
    }
}

/// The answer to an `AdmissionReview` for a Pod.
///
/// # Errors
/// Why nobody can be injected now.
pub(super) fn injected(
    snapshot: &Snapshot,
    native: NativeSidecars,
    path: &str,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    let Some(settings) = &snapshot.loaded.injector else {
        return Err(
            "there are no good settings of injection: look for the ConfigMap istio-sidecar-injector of this control plane"
                .to_owned(),
        );
    };
    let facts = snapshot.injection();
    let injector = Injector {
        settings,
        mesh: snapshot.store.mesh(),
        proxy_configs: &facts.proxy_configs,
        native_sidecars: match native {
            NativeSidecars::Auto => facts.native,
            NativeSidecars::True => true,
            NativeSidecars::False => false,
        },
    };
    Ok(review::review(
        &injector,
        |namespace| facts.annotations(namespace),
        path,
        body,
    ))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use mesh_api::istio::parse;
    use serde_json::{Value, json};

    use super::*;
    use crate::inject::Settings;
    use crate::source::Loaded;

    fn node((index, version): (usize, &&str)) -> (&'static str, &'static str, Value) {
        let name = format!("node-{index}");
        let node = json!({"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": version}}});
        ("v1", "Node", node)
    }

    fn loaded(objects: Vec<(&'static str, &'static str, Value)>) -> Loaded {
        let read = |(version, kind, mut value): (&str, &str, Value)| {
            value["apiVersion"] = version.into();
            value["kind"] = kind.into();
            Arc::new(parse(version, kind, value).expect("an object"))
        };
        Loaded {
            objects: objects.into_iter().map(read).collect(),
            injector: Some(Arc::new(Settings::default())),
            ..Loaded::default()
        }
    }

    /// The Pod as it is after the answer.
    fn pod(loaded: Loaded, native: NativeSidecars) -> Value {
        let json = Arc::new(mesh_api::envoy::json::Json::shared().clone());
        let snapshot = Snapshot::first(loaded, Arc::default(), json);
        let mut pod = json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"containers": [{"name": "web", "image": "web"}]}});
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "1", "namespace": "shop", "object": pod}});
        let answer = injected(&snapshot, native, "/inject", review.to_string().as_bytes()).expect("an answer");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        let patch = answer["response"]["patch"].as_str().expect("a patch");
        let patch = base64::prelude::BASE64_STANDARD.decode(patch).expect("base64");
        let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a JSON patch");
        json_patch::patch(&mut pod, &patch).expect("it fits");
        pod
    }

    fn is_native(pod: &Value) -> bool {
        let inits = pod["spec"]["initContainers"].as_array().expect("init containers");
        inits
            .iter()
            .any(|c| c["name"] == "istio-proxy" && c["restartPolicy"] == "Always")
    }

    #[test]
    fn all_nodes_must_run_native_sidecars_unless_somebody_says_so() {
        for (versions, expected) in [
            (&["v1.29.0", "v1.35.1+k3s1"][..], true),
            (&["v1.30.2-gke.7", "v1.28.4"], false),
            (&["v1.20.2"], false),
            (&["v2.0.0"], true),
            (&["", "v1.29"], false),
            (&[], false),
        ] {
            let nodes = || loaded(versions.iter().enumerate().map(node).collect());
            assert_eq!(is_native(&pod(nodes(), NativeSidecars::Auto)), expected, "{versions:?}");
            assert!(is_native(&pod(nodes(), NativeSidecars::True)), "{versions:?}");
            assert!(!is_native(&pod(nodes(), NativeSidecars::False)), "{versions:?}");
        }
    }

    #[test]
    fn proxy_configs_and_annotations_of_the_namespace_count() {
        let config = |name: &str, at: &str, value: &str| {
            let object = json!({"metadata": {"name": name, "namespace": "shop", "creationTimestamp": at},
                "spec": {"environmentVariables": {"FROM": value}}});
            ("networking.istio.io/v1beta1", "ProxyConfig", object)
        };
        let space = json!({"metadata": {"name": "shop",
            "annotations": {"openshift.io/sa.scc.uid-range": "1000620000/10000"}}});
        let pod = pod(
            loaded(vec![
                config("a", "2026-01-02T00:00:00Z", "younger"),
                config("b", "2026-01-01T00:00:00Z", "older"),
                ("v1", "Namespace", space),
            ]),
            NativeSidecars::Auto,
        );
        let proxy = pod["spec"]["containers"].as_array().expect("containers");
        let proxy = proxy.iter().find(|c| c["name"] == "istio-proxy").expect("the proxy");
        assert!(proxy["env"].to_string().contains("older"), "{proxy}");
        assert_ne!(proxy["securityContext"]["runAsUser"], 1337, "{proxy}");
    }

    #[test]
    fn without_settings_nobody_is_injected() {
        let json = Arc::new(mesh_api::envoy::json::Json::shared().clone());
        let snapshot = Snapshot::first(Loaded::default(), Arc::default(), json);
        let error = injected(&snapshot, NativeSidecars::Auto, "/inject", b"{}").expect_err("refused");
        assert!(error.contains("istio-sidecar-injector"), "{error}");
    }
}
