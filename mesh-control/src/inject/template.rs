//! What templates are filled from, and which ones a Pod gets.

use std::collections::BTreeMap;

use mesh_api::mesh_config::{InboundInterceptionMode, MeshConfig, ProxyConfig};
use mesh_api::names::PROXY_UID;
use serde_json::{Map, Value, json};

use super::pod::{self, containers};
use super::settings::{GATEWAY, SIDECAR, Settings, Template};
use super::values::Values;
use super::workload::Workload;
use super::{annotation, gateway, sidecar};

/// Everything that a template is filled from. The Pod is the one that the user wrote: without what an earlier injection
/// added.
pub(super) struct Facts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) mesh: &'a MeshConfig,
    pub(super) proxy: ProxyConfig,
    pub(super) pod: Value,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) workload: Workload,
    pub(super) namespace: &'a str,
    /// Name of the cluster.
    pub(super) cluster: String,
    /// Name of the network; empty if there is but one.
    pub(super) network: String,
    pub(super) native: bool,
    /// Port of health and merged metrics; `0` for no probes.
    pub(super) status_port: String,
    pub(super) uid: u64,
    pub(super) gid: u64,
}

impl<'a> Facts<'a> {
    pub(super) fn values(&self) -> &'a Values {
        &self.settings.values
    }

    /// An annotation of the Pod, else the chart's value.
    pub(super) fn annotation<'b>(&'b self, name: &str, default: &'b str) -> &'b str {
        self.annotations.get(name).map_or(default, String::as_str)
    }

    pub(super) fn interception(&self) -> &str {
        self.annotation(annotation::INTERCEPTION_MODE, self.proxy.interception_mode.as_str())
    }

    pub(super) fn captured(&self) -> bool {
        self.interception() != InboundInterceptionMode::None.as_str()
    }

    pub(super) fn tproxy(&self) -> bool {
        self.interception() == InboundInterceptionMode::Tproxy.as_str()
    }

    /// Ports of the proxy itself are never captured.
    pub(super) fn excluded_inbound_ports(&self) -> String {
        let more = self.annotation(
            annotation::EXCLUDE_INBOUND_PORTS,
            &self.values().global.proxy.exclude_inbound_ports,
        );
        let port = self.status_port.as_str();
        let listed: Vec<&str> = more.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
        if port.is_empty() || port == "0" || listed.contains(&port) {
            return more.to_owned();
        }
        listed.into_iter().chain([port]).collect::<Vec<_>>().join(",")
    }

    /// Application containers, in order.
    pub(super) fn app_containers(&self) -> Vec<&str> {
        let names = containers(&self.pod, "containers").map(pod::name);
        names.filter(|name| *name != pod::PROXY).collect()
    }

    /// A label of the Pod; an empty one is as good as none.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    pub(super) fn trust_domain(&self) -> &str {
        match self.mesh.trust_domain.as_str() {
            "" => &self.values().global.trust_domain,
            own => own,
        }
    }

    /// Metadata that every template writes.
    pub(super) fn canonical_labels(&self) -> Map<String, Value> {
        use mesh_api::names::label::{CANONICAL_NAME, CANONICAL_REVISION};
        let name = [CANONICAL_NAME, "app.kubernetes.io/name", "app"]
            .into_iter()
            .find_map(|label| self.label(label))
            .unwrap_or(&self.workload.name);
        let revision = [CANONICAL_REVISION, "app.kubernetes.io/version", "version"]
            .into_iter()
            .find_map(|label| self.label(label))
            .unwrap_or("latest");
        let mut out = Map::new();
        out.insert(CANONICAL_NAME.to_owned(), json!(as_label(name)));
        out.insert(CANONICAL_REVISION.to_owned(), json!(revision));
        out
    }

    pub(super) fn revision(&self) -> &str {
        revision(self.values())
    }
}

/// The control plane's name.
pub(super) fn revision(values: &Values) -> &str {
    match values.revision.as_str() {
        "" => "default",
        name => name,
    }
}

/// A workload's name may be longer than a label's value.
fn as_label(name: &str) -> &str {
    let cut = name.char_indices().nth(63).map_or(name, |(end, _)| &name[..end]);
    cut.trim_matches(['-', '_', '.'])
}

/// Names of the Pod's templates, with aliases resolved once.
pub(super) fn names(settings: &Settings, annotations: &BTreeMap<String, String>) -> Vec<String> {
    let asked: Vec<String> = match annotations.get(annotation::TEMPLATES) {
        Some(list) => list.split(',').map(|name| name.trim().to_owned()).collect(),
        None => settings.default_templates.clone(),
    };
    let expand = |name: String| settings.aliases.get(&name).cloned().unwrap_or_else(|| vec![name]);
    asked.into_iter().flat_map(expand).collect()
}

/// One template, filled.
///
/// # Errors
/// When there is none of this name, or it cannot be filled here.
pub(super) fn fill(name: &str, facts: &Facts<'_>) -> Result<Value, String> {
    match (name, facts.settings.templates.get(name)) {
        (_, Some(Template::Fields(fields))) => Ok(fields.clone()),
        (_, Some(Template::Go)) => Err(format!(
            "template {name:?} is written in Go's template language, which is not run here; write it as plain YAML"
        )),
        (SIDECAR, None) => sidecar::template(facts),
        (GATEWAY, None) => gateway::template(facts),
        (_, None) => Err(format!(
            "template {name:?} (annotation {}) is not known; there are {}",
            annotation::TEMPLATES,
            facts.settings.known().join(", ")
        )),
    }
}

/// User and group of the proxy: on OpenShift the last ones of the namespace's range, 1337 elsewhere.
pub(super) fn proxy_ids(namespace_annotations: &BTreeMap<String, String>) -> (u64, u64) {
    let last = |name: &str| {
        let range = namespace_annotations.get(name)?.split(',').next()?;
        if let Some((start, size)) = range.split_once('/') {
            let (start, size): (u64, u64) = (start.parse().ok()?, size.parse().ok()?);
            return start.checked_add(size.checked_sub(1)?);
        }
        range.split_once('-')?.1.parse().ok()
    };
    let default = u64::from(PROXY_UID);
    let uid = last("openshift.io/sa.scc.uid-range");
    let gid = last("openshift.io/sa.scc.supplemental-groups").or(uid);
    (uid.unwrap_or(default), gid.unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_last_of_the_namespaces_range() {
        assert_eq!(proxy_ids(&BTreeMap::new()), (1337, 1337));
        let ids = |uid: &str, gid: &str| {
            let range = |name: &str| format!("openshift.io/sa.scc.{name}");
            proxy_ids(
                &[
                    (range("uid-range"), uid.to_owned()),
                    (range("supplemental-groups"), gid.to_owned()),
                ]
                .into(),
            )
        };
        assert_eq!(ids("1000650000/10000", "5/2,9/1"), (1_000_659_999, 6));
        assert_eq!(ids("1000-2000", "x"), (2000, 2000));
        assert_eq!(ids("1/0", "18446744073709551615/2"), (1337, 1337));
    }

    #[test]
    fn labels_have_at_most_63_characters() {
        assert_eq!(as_label("web"), "web");
        assert_eq!(as_label(&"a-".repeat(40)), format!("{}a", "a-".repeat(31)));
    }
}
