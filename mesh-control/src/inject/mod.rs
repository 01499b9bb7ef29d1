//! Sidecar injection: a Pod in, the same Pod with its proxy out, or the reason why it is left alone. Pure functions over
//! JSON; the webhook ([`review`](mod@review)) and `kube-inject` ([`document`]) are thin layers over [`inject`].
//!
//! In the order in which a Pod passes: `annotation` checks what its owner wrote → [`decide`] → `reinject` takes off what an
//! earlier injection put on → `template` fills `sidecar`, `gateway` or a template of the user (`container`, `environment`,
//! `volumes`) → `merge` lays it over the Pod → `reinject` lays the user's own proxy container over that → `prometheus`,
//! `probes`, `order`.

pub mod annotation;
mod container;
pub mod decide;
pub mod document;
mod environment;
mod gateway;
mod merge;
mod order;
pub mod pod;
pub mod probes;
pub mod prometheus;
#[cfg(test)]
mod property_tests;
mod reinject;
pub mod review;
pub(crate) mod selector;
pub mod settings;
mod sidecar;
mod template;
#[cfg(test)]
mod tests;
pub mod values;
mod volumes;
pub mod workload;

use std::collections::BTreeMap;

use mesh_api::istio;
use mesh_api::mesh_config::{MeshConfig, ProxyConfig};
use mesh_api::names::port::STATUS;
use serde_json::{Map, Value, json};

pub use decide::Skip;
use reinject::Earlier;
pub use settings::Settings;
use template::Facts;
pub use workload::Workload;

/// What is the same for all Pods.
#[derive(Debug, Clone, Copy)]
pub struct Injector<'a> {
    /// The ConfigMap `istio-sidecar-injector`.
    pub settings: &'a Settings,
    /// The ConfigMap `istio`.
    pub mesh: &'a MeshConfig,
    /// ProxyConfig objects with their namespaces, the oldest first.
    pub proxy_configs: &'a [(String, istio::ProxyConfig)],
    /// The nodes know containers that start before the others and end after them (Kubernetes 1.29; Istio asks for 1.33).
    pub native_sidecars: bool,
}

/// What is told of one Pod beside itself.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Namespace; the Pod may not name it.
    pub namespace: String,
    /// Annotations of the namespace: user ranges of OpenShift.
    pub namespace_annotations: BTreeMap<String, String>,
    /// Variables of the webhook's path, such as `ISTIO_META_CLUSTER_ID`.
    pub environment: BTreeMap<String, String>,
    /// The workload, where a file says it; told from the Pod's owner otherwise.
    pub workload: Option<Workload>,
}

/// What became of a Pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It has a proxy.
    Injected {
        /// The whole Pod.
        pod: Value,
        /// What its owner wrote and is not in force.
        warnings: Vec<String>,
    },
    /// It is left as it is.
    Skipped {
        /// Why.
        reason: Skip,
        /// What its owner wrote and does not count.
        warnings: Vec<String>,
    },
}

/// Why a Pod cannot be injected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// It is no Pod.
    #[error("no Pod: {0}")]
    NoPod(String),
    /// Annotations hold what they cannot hold: one text each.
    #[error("{}", .0.join("; "))]
    Annotations(Vec<String>),
    /// Templates and Pod do not go together.
    #[error("{0}")]
    Template(String),
}

/// Injects one Pod, if it is to be.
///
/// # Errors
/// When it is no Pod, or when its owner asks for what cannot be done.
pub fn inject(injector: &Injector<'_>, request: &Request, pod: &Value) -> Result<Outcome, InjectError> {
    check(pod)?;
    let mut warnings = Vec::new();
    if let Err(reason) = decide::required(injector.settings, &request.namespace, pod, &mut warnings) {
        return Ok(Outcome::Skipped { reason, warnings });
    }
    let annotations = pod::annotations(pod);
    annotation::check(&annotations).map_err(InjectError::Annotations)?;
    warnings.extend(annotation::idle(&annotations));
    let facts = facts(injector, request, pod)?;
    let pod = build(&facts, request, pod, &mut warnings).map_err(InjectError::Template)?;
    // A template of the user may say anything.
    check(&pod).map_err(|e| InjectError::Template(format!("the templates make of the Pod {e}")))?;
    Ok(Outcome::Injected { pod, warnings })
}

/// The types of all fields that Kubernetes knows.
fn check(pod: &Value) -> Result<(), InjectError> {
    if !pod.get("spec").is_some_and(Value::is_object) {
        return Err(InjectError::NoPod("spec is missing".to_owned()));
    }
    match serde_path_to_error::deserialize::<_, mesh_api::k8s::Pod>(pod) {
        Ok(_) => Ok(()),
        Err(e) => Err(InjectError::NoPod(format!("{}: {}", e.path(), e.inner()))),
    }
}

fn facts<'a>(injector: &Injector<'a>, request: &'a Request, pod: &Value) -> Result<Facts<'a>, InjectError> {
    let earlier = Earlier::read(pod).map_err(|e| InjectError::Annotations(vec![e]))?;
    let stripped = earlier.strip(pod);
    let (labels, annotations) = (pod::labels(&stripped), pod::annotations(&stripped));
    let global = &injector.settings.values.global;
    let of_path = |name: &str| request.environment.get(name).filter(|v| !v.is_empty());
    let cluster = of_path("ISTIO_META_CLUSTER_ID").unwrap_or(&global.multi_cluster.cluster_name);
    let network = labels
        .get(NETWORK)
        .or(of_path("ISTIO_META_NETWORK"))
        .unwrap_or(&global.network);
    let native = match annotations.get(annotation::NATIVE_SIDECAR).map(String::as_str) {
        None | Some("") => injector.native_sidecars,
        Some(own) => own != "false",
    };
    let (uid, gid) = template::proxy_ids(&request.namespace_annotations);
    let mut proxy = proxy_config(injector, &request.namespace, &labels, &annotations)?;
    let status_port = match annotations.get(annotation::STATUS_PORT) {
        Some(own) => own.trim().to_owned(),
        None if proxy.status_port != STATUS => proxy.status_port.to_string(),
        None => global.proxy.status_port.trim().to_owned(),
    };
    if let Ok(port @ 1..) = status_port.parse() {
        proxy.status_port = port;
    }
    Ok(Facts {
        settings: injector.settings,
        mesh: injector.mesh,
        proxy,
        status_port,
        workload: request.workload.clone().unwrap_or_else(|| Workload::of_pod(pod)),
        namespace: &request.namespace,
        cluster: if cluster.is_empty() {
            "Kubernetes".to_owned()
        } else {
            cluster.clone()
        },
        network: network.clone(),
        native,
        uid,
        gid,
        pod: stripped,
        labels,
        annotations,
    })
}

/// Label of the network that a Pod is on.
const NETWORK: &str = "topology.istio.io/network";

/// Settings of the Pod's proxy: those of the mesh, then ProxyConfig objects of the root namespace, of its own, and of the
/// Pod, the annotation between the last two.
fn proxy_config(
    injector: &Injector<'_>,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Result<ProxyConfig, InjectError> {
    let mut config = injector.mesh.default_config.clone();
    let root = &injector.mesh.root_namespace;
    let oldest = |of: &str| {
        let mut objects = injector.proxy_configs.iter().filter(|(own, _)| own == of);
        objects
            .find(|(_, object)| object.selector.is_none())
            .map(|(_, object)| object)
    };
    let selected = injector.proxy_configs.iter().find(|(own, object)| {
        let selector = object.selector.as_ref();
        let all = |s: &istio::WorkloadSelector| s.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v));
        own == namespace && selector.is_some_and(all)
    });
    let apply = |object: Option<&istio::ProxyConfig>, config: &mut ProxyConfig| {
        let Some(object) = object else { return };
        if let Some(threads) = object.concurrency {
            config.concurrency = u32::try_from(threads).ok();
        }
        config.proxy_metadata.extend(object.environment_variables.clone());
        if object.image.is_some() {
            config.image.clone_from(&object.image);
        }
    };
    apply(oldest(root), &mut config);
    if namespace != root {
        apply(oldest(namespace), &mut config);
    }
    if let Some(text) = annotations.get(annotation::PROXY_CONFIG) {
        config = config.overlay(text).map_err(|errors| {
            let name = annotation::PROXY_CONFIG;
            InjectError::Annotations(errors.iter().map(|e| format!("annotation {name}: {e}")).collect())
        })?;
    }
    apply(selected.map(|(_, object)| object), &mut config);
    if let Some(address) = annotations.get(annotation::DISCOVERY_ADDRESS).filter(|a| !a.is_empty()) {
        config.discovery_address.clone_from(address);
    }
    Ok(config)
}

fn build(facts: &Facts<'_>, request: &Request, original: &Value, warnings: &mut Vec<String>) -> Result<Value, String> {
    let earlier = Earlier::read(original)?;
    let mut merged = original.clone();
    let mut injected = json!({"spec": {}});
    for name in template::names(facts.settings, &facts.annotations) {
        let fields = template::fill(&name, facts)?;
        let wrong = |e: String| format!("template {name:?} cannot be laid over the Pod: {e}");
        merge::merge(&mut injected, &fields).map_err(wrong)?;
        move_native(&mut merged, &injected);
        merge::merge(&mut merged, &fields).map_err(wrong)?;
    }
    earlier.reapply(&mut merged, original, &injected)?;
    reinject::follow_user(&mut merged, earlier.users_proxy(original), facts.tproxy(), warnings);
    if let Some(proxy) = pod::proxy_mut(&mut merged) {
        // Cluster and network are in their places already.
        let more = request.environment.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        pod::set_env(
            proxy,
            more.filter(|(k, _)| *k != "ISTIO_META_CLUSTER_ID" && *k != "ISTIO_META_NETWORK"),
        );
    }
    prometheus::merge(&mut merged, facts.mesh, facts.proxy.status_port);
    let by_default = facts.values().sidecar_injector_webhook.rewrite_app_http_probe;
    probes::rewrite(&mut merged, by_default, &facts.status_port, warnings);
    write_down(&mut merged, &injected, facts);
    let hold = facts.proxy.hold_application_until_proxy_starts
        || facts.values().global.proxy.hold_application_until_proxy_starts;
    let before = facts.annotation(annotation::INIT_BEFORE_PROXY, "");
    let before: Vec<&str> = before.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
    order::sort(&mut merged, hold, &before);
    Ok(merged)
}

/// The user writes the proxy among the containers also where it becomes a native sidecar.
fn move_native(merged: &mut Value, injected: &Value) {
    if pod::find(injected, "initContainers", pod::PROXY).is_none() {
        return;
    }
    let Some(list) = pod::existing_list(merged, "containers") else {
        return;
    };
    let Some(at) = list.iter().position(|c| pod::name(c) == pod::PROXY) else {
        return;
    };
    let proxy = list.remove(at);
    if let Some(list) = pod::list_mut(merged, "initContainers") {
        list.push(proxy);
    }
}

/// The annotation that tools and the next injection read, and the network's label.
fn write_down(merged: &mut Value, injected: &Value, facts: &Facts<'_>) {
    let names = |field: &str| {
        let names: Vec<&str> = pod::containers(injected, field).map(pod::name).collect();
        if names.is_empty() { Value::Null } else { json!(names) }
    };
    let mut status = Map::new();
    for field in ["initContainers", "containers", "volumes", "imagePullSecrets"] {
        status.insert(field.to_owned(), names(field));
    }
    status.insert("revision".to_owned(), json!(facts.revision()));
    if let Some(annotations) = pod::metadata_mut(merged, "annotations") {
        annotations.insert(annotation::STATUS.to_owned(), json!(Value::Object(status).to_string()));
        for (name, value) in &facts.settings.annotations {
            annotations.insert(name.clone(), json!(value));
        }
    }
    if !facts.network.is_empty()
        && let Some(labels) = pod::metadata_mut(merged, "labels")
    {
        labels.insert(NETWORK.to_owned(), json!(facts.network));
    }
}
