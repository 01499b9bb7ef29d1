//! Whether a Pod is injected.
//!
//! Two sides decide. The API server asks the webhook only for Pods that the webhook's selectors let through
//! ([`webhook_of`] says the same for tools), and the webhook then looks at the Pod and at its own settings ([`required`]).
//! Labels of the namespace are the first side's alone: the second one may not have seen a label yet that was written a
//! moment ago.

use std::collections::BTreeMap;
use std::fmt;

use mesh_api::names::{annotation, label};
use serde_json::Value;

use super::pod::{annotations, labels};
use super::selector;
use super::settings::{Policy, Settings};

/// Namespaces of the cluster itself.
pub const IGNORED_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Why a Pod is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// `spec.hostNetwork`: its rules would capture the node's traffic.
    HostNetwork,
    /// One of [`IGNORED_NAMESPACES`].
    Namespace(String),
    /// The label `sidecar.istio.io/inject` says so.
    Label,
    /// The annotation `sidecar.istio.io/inject` says so.
    Annotation,
    /// `neverInjectSelector` at this place.
    NeverSelector(usize),
    /// The policy is `disabled`, and the Pod does not ask.
    Policy,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skip::HostNetwork => write!(f, "it is on the node's network (hostNetwork)"),
            Skip::Namespace(name) => write!(f, "namespace {name} is the cluster's own"),
            Skip::Label => write!(f, "its label {} is false", label::INJECT),
            Skip::Annotation => write!(f, "its annotation {} is false", annotation::INJECT),
            Skip::NeverSelector(index) => write!(f, "neverInjectSelector[{index}] selects it"),
            Skip::Policy => write!(f, "the policy is disabled, and it does not ask to be injected"),
        }
    }
}

/// Looks at a Pod that the API server sent, or that a file holds.
///
/// # Errors
/// Why it is left alone. `warnings` gets what was written and does not count.
pub fn required(settings: &Settings, namespace: &str, pod: &Value, warnings: &mut Vec<String>) -> Result<(), Skip> {
    if pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true) {
        return Err(Skip::HostNetwork);
    }
    if IGNORED_NAMESPACES.contains(&namespace) {
        return Err(Skip::Namespace(namespace.to_owned()));
    }
    let (labels, annotations) = (labels(pod), annotations(pod));
    // The label is the newer form, and one with an empty value still hides the annotation.
    let (said, skip, what) = match labels.get(label::INJECT) {
        Some(value) => (value.as_str(), Skip::Label, "label"),
        None => {
            let value = annotations.get(annotation::INJECT).map_or("", String::as_str);
            (value, Skip::Annotation, "annotation")
        }
    };
    match said {
        "true" => return Ok(()),
        "false" => return Err(skip),
        "" => {}
        other => warnings.push(format!(
            "{what} {}: {other:?} is neither \"true\" nor \"false\"; it does not count",
            label::INJECT
        )),
    }
    if let Some(index) = settings.never.iter().position(|s| selector::matches(s, &labels)) {
        return Err(Skip::NeverSelector(index));
    }
    if settings.always.iter().any(|s| selector::matches(s, &labels)) {
        return Ok(());
    }
    match settings.policy {
        Policy::Enabled => Ok(()),
        Policy::Disabled => Err(Skip::Policy),
    }
}

/// Which webhook of the control plane's configuration lets a Pod through, by the labels of its namespace and its own: the
/// table of the chart's selectors. `None`: the API server does not ask.
///
/// `revision` is the control plane's name, empty or `default` for the default one; `everywhere` is
/// `enableNamespacesByDefault`.
#[must_use]
pub fn webhook_of(
    revision: &str,
    everywhere: bool,
    namespace: &str,
    namespace_labels: &BTreeMap<String, String>,
    pod_labels: &BTreeMap<String, String>,
) -> Option<&'static str> {
    let revision = if revision.is_empty() { "default" } else { revision };
    let of = |labels: &BTreeMap<String, String>, key: &str| labels.get(key).cloned();
    let (injection, ns_revision) = (
        of(namespace_labels, label::INJECTION),
        of(namespace_labels, label::REVISION),
    );
    let (inject, pod_revision) = (of(pod_labels, label::INJECT), of(pod_labels, label::REVISION));
    let (willing, default) = (inject.as_deref() != Some("false"), revision == "default");
    match (injection.as_deref(), ns_revision.as_deref()) {
        (None, Some(other)) if other == revision => willing.then_some("rev.namespace.sidecar-injector.istio.io"),
        (Some("enabled"), _) => (default && willing).then_some("namespace.sidecar-injector.istio.io"),
        (None, None) if pod_revision.is_some() => {
            (willing && pod_revision.as_deref() == Some(revision)).then_some("rev.object.sidecar-injector.istio.io")
        }
        (None, None) if inject.as_deref() == Some("true") => default.then_some("object.sidecar-injector.istio.io"),
        (None, None) if inject.is_none() && everywhere && !IGNORED_NAMESPACES.contains(&namespace) => {
            default.then_some("auto.sidecar-injector.istio.io")
        }
        _ => None,
    }
}
