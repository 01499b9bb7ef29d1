//! Workloads: Pods and WorkloadEntries, as endpoints and as the place where a proxy runs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_api::istio::{Object, WorkloadEntry};
use mesh_api::k8s::{Node, Pod};
use mesh_api::names::label;

/// What the mesh needs to know of a Pod or a WorkloadEntry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workload {
    /// Name of the object.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Addresses, the main one first. A WorkloadEntry may have a DNS name.
    pub addresses: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Service account, `default` if the object says none.
    pub service_account: String,
    /// Name of the Deployment (or its like) that made the Pod; the object's own name otherwise.
    pub owner: String,
    /// Takes traffic.
    pub ready: bool,
    /// Marked for deletion: it leaves before its EndpointSlice says so.
    pub going: bool,
    /// `region/zone/subzone`, or empty.
    pub locality: String,
    /// Named ports.
    pub ports: BTreeMap<String, u16>,
    /// Share of the traffic, at least 1.
    pub weight: u32,
    /// A sidecar answers mutual TLS.
    pub mesh_tls: bool,
    /// A WorkloadEntry or a listed endpoint: `ports` are by the names of the service's ports.
    pub entry: bool,
}

impl Workload {
    /// Reads a Pod. `node` is the one that it runs on.
    pub fn of_pod(pod: &Pod, node: Option<&Node>) -> Self {
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let labels = meta.labels.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();

        let mut addresses: Vec<String> = Vec::new();
        if let Some(status) = status {
            let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
            for ip in status.pod_ip.clone().into_iter().chain(listed) {
                if ip.parse::<IpAddr>().is_ok() && !addresses.contains(&ip) {
                    addresses.push(ip);
                }
            }
        }
        let mut ports = BTreeMap::new();
        for container in spec.iter().flat_map(|s| &s.containers) {
            for port in container.ports.iter().flatten() {
                if let (Some(name), Ok(number)) = (&port.name, u16::try_from(port.container_port)) {
                    ports.entry(name.clone()).or_insert(number);
                }
            }
        }
        Workload {
            namespace: meta.namespace.clone().unwrap_or_default(),
            addresses,
            service_account: account(spec.and_then(|s| s.service_account_name.as_deref())),
            owner: owner(pod),
            ready: is_ready(pod),
            going: meta.deletion_timestamp.is_some(),
            locality: locality(&labels, node),
            ports,
            weight: 1,
            mesh_tls: labels.get(label::TLS_MODE).is_some_and(|m| m == "istio"),
            entry: false,
            name,
            labels,
        }
    }

    /// Reads a WorkloadEntry.
    pub fn of_entry(entry: &Object<WorkloadEntry>) -> Self {
        let mut labels = entry.meta.labels.clone();
        labels.extend(entry.spec.labels.clone());
        let mesh_tls = answers_mesh_tls(&labels, &entry.spec.service_account);
        Workload {
            labels,
            mesh_tls,
            ..Self::of_entry_spec(&entry.spec, &entry.meta.name, &entry.meta.namespace)
        }
    }

    /// Reads an endpoint of a ServiceEntry, or the spec of a WorkloadEntry.
    pub fn of_entry_spec(spec: &WorkloadEntry, name: &str, namespace: &str) -> Self {
        let ports = spec
            .ports
            .iter()
            .filter_map(|(name, port)| Some((name.clone(), u16::try_from(*port).ok()?)))
            .collect();
        Workload {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            addresses: vec![spec.address.clone()],
            labels: spec.labels.clone(),
            service_account: spec.service_account.clone(),
            owner: name.to_owned(),
            ready: true,
            going: false,
            locality: spec.locality.clone(),
            ports,
            weight: spec.weight.max(1),
            mesh_tls: answers_mesh_tls(&spec.labels, &spec.service_account),
            entry: true,
        }
    }

    /// Whether all labels of a selector are there. An empty selector chooses everything.
    pub fn matches(&self, selector: &BTreeMap<String, String>) -> bool {
        selects(selector, &self.labels)
    }

    /// Canonical service: by label, else the owner's name.
    pub fn canonical_name(&self) -> &str {
        [label::CANONICAL_NAME, "app.kubernetes.io/name", "app"]
            .iter()
            .find_map(|l| self.labels.get(*l))
            .map_or(self.owner.as_str(), String::as_str)
    }

    /// Canonical revision: by label, else `latest`.
    pub fn canonical_revision(&self) -> &str {
        [label::CANONICAL_REVISION, "app.kubernetes.io/version", "version"]
            .iter()
            .find_map(|l| self.labels.get(*l))
            .map_or("latest", String::as_str)
    }
}

/// Whether all labels of a selector are among `labels`.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

/// By its label; without one a workload that has a service account has a sidecar too.
fn answers_mesh_tls(labels: &BTreeMap<String, String>, account: &str) -> bool {
    labels
        .get(label::TLS_MODE)
        .map_or(!account.is_empty(), |mode| mode == "istio")
}

fn account(name: Option<&str>) -> String {
    match name {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "default".to_owned(),
    }
}

/// Ready by condition; a Pod that reports no conditions (a directory's Pod) is ready when it has an address. A Pod that is
/// going or gone takes no traffic.
fn is_ready(pod: &Pod) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let Some(status) = &pod.status else { return false };
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return false;
    }
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    condition.is_none_or(|c| c.status == "True")
}

/// What made the Pod. A ReplicaSet's name ends in a hash that its Pods carry as a label, and the name before it is the Deployment's.
fn owner(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let controller = meta
        .owner_references
        .iter()
        .flatten()
        .find(|o| o.controller == Some(true) || meta.owner_references.iter().flatten().count() == 1);
    let Some(controller) = controller else { return name };
    let hash = meta.labels.as_ref().and_then(|l| l.get("pod-template-hash"));
    match (controller.kind.as_str(), hash) {
        ("ReplicaSet", Some(hash)) => controller
            .name
            .strip_suffix(hash.as_str())
            .and_then(|n| n.strip_suffix('-'))
            .unwrap_or(&controller.name)
            .to_owned(),
        _ => controller.name.clone(),
    }
}

/// `region/zone/subzone` as a workload's own label says it, with dots for slashes.
pub fn own_locality(labels: &BTreeMap<String, String>) -> Option<String> {
    labels.get(label::LOCALITY).map(|own| own.replace('.', "/"))
}

/// By the pod's label, else by the labels of its node.
fn locality(labels: &BTreeMap<String, String>, node: Option<&Node>) -> String {
    if let Some(own) = own_locality(labels) {
        return own;
    }
    let Some(labels) = node.and_then(|n| n.metadata.labels.as_ref()) else {
        return String::new();
    };
    let keys = [
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.istio.io/subzone",
    ];
    let parts: Vec<&str> = keys.iter().map_while(|k| labels.get(*k).map(String::as_str)).collect();
    parts.join("/")
}
