//! What a [`super::Store`] is built of: objects in order, workloads, services with their endpoints.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mesh_api::istio::{AnyObject, DestinationRule, Kind, Object, VirtualService};
use mesh_api::k8s::{EndpointSlice, Node};
use mesh_api::mesh_config::MeshConfig;

use super::endpoint::{self, Endpoints, Workloads};
use super::rules::{self, age};
use super::service::Service;
use super::workload::Workload;

pub(super) type Nodes<'a> = HashMap<&'a str, &'a Node>;

/// All objects of one kind.
macro_rules! of_kind {
    ($objects:expr, $kind:ident) => {
        $objects.iter().filter_map(|o| match o.as_ref() {
            AnyObject::$kind(object) => Some(object),
            _ => None,
        })
    };
}
pub(super) use of_kind;

/// By kind, namespace and name; the last of equal ones.
pub(super) fn sorted(objects: impl IntoIterator<Item = Arc<AnyObject>>) -> Vec<Arc<AnyObject>> {
    let mut objects: Vec<Arc<AnyObject>> = objects.into_iter().collect();
    // Stable, and quick for what is nearly in order, as it is after a change.
    objects.sort_by(|a, b| key(a).cmp(&key(b)));
    objects.dedup_by(|next, kept| {
        let same = key(next) == key(kept);
        if same {
            std::mem::swap(next, kept);
        }
        same
    });
    objects
}

pub(super) fn key(object: &AnyObject) -> (Kind, &str, &str) {
    (object.kind(), object.namespace(), object.name())
}

/// Objects of one kind in one namespace.
pub(super) fn of_namespace<'a>(objects: &'a [Arc<AnyObject>], kind: Kind, namespace: &str) -> &'a [Arc<AnyObject>] {
    let place = |o: &Arc<AnyObject>| (o.kind(), o.namespace()).cmp(&(kind, namespace));
    let start = objects.partition_point(|o| place(o).is_lt());
    let rest = &objects[start..];
    &rest[..rest.partition_point(|o| place(o).is_eq())]
}

pub(super) fn nodes(objects: &[Arc<AnyObject>]) -> Nodes<'_> {
    of_kind!(objects, Node)
        .filter_map(|n| Some((n.object.metadata.name.as_deref()?, &n.object)))
        .collect()
}

pub(super) fn set_workloads(workloads: &mut Workloads, namespace: &str, objects: &[Arc<AnyObject>], nodes: &Nodes<'_>) {
    let pods = of_kind!(of_namespace(objects, Kind::Pod, namespace), Pod).map(|pod| {
        let node = pod.object.spec.as_ref().and_then(|s| s.node_name.as_deref());
        Arc::new(Workload::of_pod(&pod.object, node.and_then(|n| nodes.get(n).copied())))
    });
    let entries = of_namespace(objects, Kind::WorkloadEntry, namespace);
    let entries = of_kind!(entries, WorkloadEntry).map(|entry| Arc::new(Workload::of_entry(entry)));
    workloads.set(namespace, pods, entries);
}

/// The services of a namespace with their endpoints, and whether any of these was found by its address alone.
pub(super) fn services_of(
    namespace: &str,
    objects: &[Arc<AnyObject>],
    workloads: &Workloads,
) -> (Vec<(Service, Endpoints)>, bool) {
    let mut slices: HashMap<&str, Vec<&EndpointSlice>> = HashMap::new();
    let mut by_address = false;
    for slice in of_kind!(of_namespace(objects, Kind::EndpointSlice, namespace), EndpointSlice) {
        if let Some(service) = endpoint::slice_service(&slice.object) {
            by_address |= endpoint::goes_by_address(&slice.object, workloads);
            slices.entry(service).or_default().push(&slice.object);
        }
    }

    let mut found: Vec<(Service, Endpoints)> = Vec::new();
    for service in of_kind!(of_namespace(objects, Kind::Service, namespace), Service) {
        let service = Service::of_kubernetes(&service.object);
        let own = slices.get(service.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let endpoints = endpoint::of_kubernetes(&service, own, workloads);
        found.push((service, endpoints));
    }
    let mut known: HashMap<String, usize> = found
        .iter()
        .enumerate()
        .map(|(index, (s, _))| (s.host.clone(), index))
        .collect();
    let entries = of_namespace(objects, Kind::ServiceEntry, namespace);
    let mut entries: Vec<_> = of_kind!(entries, ServiceEntry).collect();
    entries.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    for entry in entries {
        for service in Service::of_entry(entry) {
            let endpoints = endpoint::of_entry(&service, entry, workloads);
            // Several ServiceEntries of a namespace may add ports and endpoints to one host.
            if let Some((old, old_endpoints)) = known.get(&service.host).and_then(|i| found.get_mut(*i)) {
                merge(old, old_endpoints, &service, endpoints);
            } else {
                known.insert(service.host.clone(), found.len());
                found.push((service, endpoints));
            }
        }
    }
    (found, by_address)
}

/// Labels of clients that VirtualServices and DestinationRules ask for.
pub(super) fn client_labels(
    routings: &[&Object<VirtualService>],
    rules: &[&Object<DestinationRule>],
    mesh: &MeshConfig,
) -> BTreeSet<String> {
    let mut out = rules::failover_labels(rules, mesh);
    for routing in routings {
        let http = routing.spec.http.iter().flat_map(|r| &r.r#match);
        out.extend(http.flat_map(|m| m.source_labels.keys().cloned()));
        let tls = routing.spec.tls.iter().flat_map(|r| &r.r#match);
        out.extend(tls.flat_map(|m| m.source_labels.keys().cloned()));
        let tcp = routing.spec.tcp.iter().flat_map(|r| &r.r#match);
        out.extend(tcp.flat_map(|m| m.source_labels.keys().cloned()));
    }
    let selectors = rules.iter().filter_map(|r| r.spec.workload_selector.as_ref());
    out.extend(selectors.flat_map(|s| s.match_labels.keys().cloned()));
    out
}

/// Adds the ports that are new, with their endpoints, and endpoints to ports that are there.
pub(super) fn merge(old: &mut Service, old_endpoints: &mut Endpoints, new: &Service, endpoints: Endpoints) {
    for port in &new.ports {
        if old.port(port.number).is_none() {
            old.ports.push(port.clone());
        }
    }
    for (port, list) in endpoints {
        let known = old_endpoints.entry(port).or_default();
        for endpoint in list {
            if !known.contains(&endpoint) {
                known.push(endpoint);
            }
        }
    }
}
