//! One immutable, indexed snapshot of all objects.
//!
//! A change of any object makes a new [`Store`]. The order in which objects come never matters: where several speak for
//! one thing the oldest wins, then the first by name and namespace.

pub mod endpoint;
pub mod host;
pub mod protocol;
pub mod routing;
pub mod rules;
pub mod service;
#[cfg(test)]
mod tests;
pub mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mesh_api::istio::{AnyObject, Gateway, Object};
use mesh_api::k8s::{EndpointSlice, Node, Secret};

pub use mesh_api::mesh_config::MeshConfig;

use endpoint::{Endpoints, Workloads};
use routing::{Routing, Routings};
use rules::{Mtls, PeerAuthentications, TrafficRule, TrafficRules, age};
use service::Service;
use workload::Workload;

/// All objects at one instant.
#[derive(Debug, Clone)]
pub struct Store {
    mesh: Arc<MeshConfig>,
    objects: Vec<Arc<AnyObject>>,
    workloads: Workloads,
    /// By host; several where ServiceEntries of different namespaces name one host. Kubernetes Services first, then the oldest.
    services: BTreeMap<String, Vec<Arc<Service>>>,
    /// By (host, namespace).
    endpoints: HashMap<(String, String), Arc<Endpoints>>,
    routings: Routings,
    rules: TrafficRules,
    authentications: PeerAuthentications,
    gateways: Vec<Object<Gateway>>,
    secrets: BTreeMap<(String, String), Arc<AnyObject>>,
}

/// All objects of one kind.
macro_rules! of_kind {
    ($objects:expr, $kind:ident) => {
        $objects.iter().filter_map(|o| match o.as_ref() {
            AnyObject::$kind(object) => Some(object),
            _ => None,
        })
    };
}

impl Store {
    /// Indexes the objects. Of several with the same kind, namespace and name the last one counts.
    pub fn build(objects: impl IntoIterator<Item = Arc<AnyObject>>, mesh: Arc<MeshConfig>) -> Self {
        let objects: BTreeMap<_, _> = objects
            .into_iter()
            .map(|o| ((o.kind(), o.namespace().to_owned(), o.name().to_owned()), o))
            .collect();
        let objects: Vec<Arc<AnyObject>> = objects.into_values().collect();

        let workloads = workloads(&objects);
        let (services, endpoints) = services(&objects, &workloads);

        let mut routings: Vec<_> = of_kind!(objects, VirtualService).collect();
        routings.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut rules: Vec<_> = of_kind!(objects, DestinationRule).collect();
        rules.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut authentications: Vec<_> = of_kind!(objects, PeerAuthentication).collect();
        authentications.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut gateways: Vec<_> = of_kind!(objects, Gateway).cloned().collect();
        gateways.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let secrets = objects
            .iter()
            .filter(|o| matches!(o.as_ref(), AnyObject::Secret(_)))
            .map(|o| ((o.namespace().to_owned(), o.name().to_owned()), o.clone()))
            .collect();

        Store {
            routings: Routings::build(routings),
            rules: TrafficRules::build(rules),
            authentications: PeerAuthentications::build(authentications),
            mesh,
            workloads,
            services,
            endpoints,
            gateways,
            secrets,
            objects,
        }
    }

    /// Mesh-wide settings.
    pub fn mesh(&self) -> &MeshConfig {
        &self.mesh
    }

    /// All objects, by kind, namespace and name.
    pub fn objects(&self) -> &[Arc<AnyObject>] {
        &self.objects
    }

    /// The Pod of a proxy.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Workload>> {
        self.workloads.pod(namespace, name)
    }

    /// A workload by one of its addresses.
    pub fn workload_by_address(&self, address: &str) -> Option<&Arc<Workload>> {
        self.workloads.by_address(address)
    }

    /// All services that a namespace sees, one for each host, in the order of their hosts. A service of the namespace
    /// itself comes before those of others.
    pub fn services(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.services
            .values()
            .filter_map(move |list| self.pick(list, namespace))
    }

    /// The service with this host that a namespace sees.
    pub fn service(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.pick(self.services.get(host)?, namespace)
    }

    fn pick<'a>(&self, list: &'a [Arc<Service>], viewer: &str) -> Option<&'a Arc<Service>> {
        let default = &self.mesh.default_service_export_to;
        let seen = |s: &&Arc<Service>| host::visible(&s.export_to, default, &s.namespace, viewer);
        list.iter()
            .filter(seen)
            .find(|s| s.namespace == viewer)
            .or_else(|| list.iter().find(seen))
    }

    /// Services of a namespace whose Pods are those with these labels, or that list one of these addresses.
    pub fn services_of<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
        addresses: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a Arc<Service>> {
        self.services
            .values()
            .flatten()
            .filter(move |s| s.namespace == namespace)
            .filter(move |s| {
                if s.selector.is_empty() {
                    self.endpoints(s)
                        .values()
                        .flatten()
                        .any(|e| addresses.contains(&e.address))
                } else {
                    workload::selects(&s.selector, labels)
                }
            })
    }

    /// Endpoints of a service.
    pub fn endpoints(&self, service: &Service) -> &Endpoints {
        static NONE: Endpoints = Endpoints::new();
        self.endpoints
            .get(&(service.host.clone(), service.namespace.clone()))
            .map_or(&NONE, |e| e)
    }

    /// VirtualServices of a gateway (`mesh`, or `namespace/name`) that a namespace sees, oldest first.
    pub fn routings_at<'a>(
        &'a self,
        gateway: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Routing>> + use<'a> {
        self.routings.at(gateway).filter(move |r| self.sees(r, namespace))
    }

    /// VirtualServices of all sidecars that a namespace sees and that name this host, or a wildcard around it; oldest first.
    pub fn routings_of<'a>(
        &'a self,
        host: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Routing>> + use<'a> {
        self.routings.of_host(host).filter(move |r| self.sees(r, namespace))
    }

    fn sees(&self, routing: &Routing, namespace: &str) -> bool {
        let object = &routing.object;
        let default = &self.mesh.default_virtual_service_export_to;
        host::visible(&object.spec.export_to, default, &object.meta.namespace, namespace)
    }

    /// The DestinationRule that a client uses for a service.
    pub fn rule(
        &self,
        service: &Service,
        client_namespace: &str,
        client_labels: &BTreeMap<String, String>,
    ) -> Option<&Arc<TrafficRule>> {
        self.rules.find(
            &service.host,
            &service.namespace,
            client_namespace,
            client_labels,
            &self.mesh.root_namespace,
            &self.mesh.default_destination_rule_export_to,
        )
    }

    /// Whether inbound connections of a workload must be mutual TLS.
    pub fn mtls(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Mtls {
        self.authentications
            .resolve(namespace, labels, &self.mesh.root_namespace)
    }

    /// Gateways whose selector takes these labels, oldest first.
    pub fn gateways<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a Object<Gateway>> {
        self.gateways
            .iter()
            .filter(move |g| workload::selects(&g.spec.selector, labels))
    }

    /// Whether there is a Gateway of this name, `namespace/name`.
    pub fn has_gateway(&self, name: &str) -> bool {
        self.gateways
            .iter()
            .any(|g| name.split_once('/') == Some((&g.meta.namespace, &g.meta.name)))
    }

    /// A Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        match self.secrets.get(&(namespace.to_owned(), name.to_owned()))?.as_ref() {
            AnyObject::Secret(secret) => Some(&secret.object),
            _ => None,
        }
    }
}

fn workloads(objects: &[Arc<AnyObject>]) -> Workloads {
    let nodes: BTreeMap<&str, &Node> = of_kind!(objects, Node)
        .filter_map(|n| Some((n.object.metadata.name.as_deref()?, &n.object)))
        .collect();
    let pods = of_kind!(objects, Pod).map(|pod| {
        let node = pod.object.spec.as_ref().and_then(|s| s.node_name.as_deref());
        Arc::new(Workload::of_pod(&pod.object, node.and_then(|n| nodes.get(n).copied())))
    });
    let entries = of_kind!(objects, WorkloadEntry).map(|entry| Arc::new(Workload::of_entry(entry)));
    Workloads::build(pods, entries)
}

type Services = BTreeMap<String, Vec<Arc<Service>>>;
type AllEndpoints = HashMap<(String, String), Arc<Endpoints>>;

fn services(objects: &[Arc<AnyObject>], workloads: &Workloads) -> (Services, AllEndpoints) {
    let mut slices: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
    for slice in of_kind!(objects, EndpointSlice) {
        let slice = &slice.object;
        if let (Some(namespace), Some(service)) = (slice.metadata.namespace.as_deref(), endpoint::slice_service(slice))
        {
            slices.entry((namespace, service)).or_default().push(slice);
        }
    }

    let mut found: Vec<(Service, Endpoints)> = Vec::new();
    for service in of_kind!(objects, Service) {
        let service = Service::of_kubernetes(&service.object);
        let own = slices
            .get(&(service.namespace.as_str(), service.name.as_str()))
            .map(Vec::as_slice)
            .unwrap_or_default();
        let endpoints = endpoint::of_kubernetes(&service, own, workloads);
        found.push((service, endpoints));
    }
    let key = |s: &Service| (s.host.clone(), s.namespace.clone());
    let mut known: HashMap<(String, String), usize> = found
        .iter()
        .enumerate()
        .map(|(index, (s, _))| (key(s), index))
        .collect();
    let mut entries: Vec<_> = of_kind!(objects, ServiceEntry).collect();
    entries.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    for entry in entries {
        for service in Service::of_entry(entry) {
            let endpoints = endpoint::of_entry(&service, entry, workloads);
            // Several ServiceEntries of a namespace may add ports and endpoints to one host.
            if let Some((old, old_endpoints)) = known.get(&key(&service)).and_then(|i| found.get_mut(*i)) {
                merge(old, old_endpoints, &service, endpoints);
            } else {
                known.insert(key(&service), found.len());
                found.push((service, endpoints));
            }
        }
    }
    service::allocate(found.iter_mut().map(|(s, _)| s));

    let mut services = Services::new();
    let mut endpoints = AllEndpoints::new();
    for (service, list) in found {
        endpoints.insert((service.host.clone(), service.namespace.clone()), Arc::new(list));
        services
            .entry(service.host.clone())
            .or_default()
            .push(Arc::new(service));
    }
    for list in services.values_mut() {
        list.sort_by(|a, b| (!a.kubernetes, a.created, &a.namespace).cmp(&(!b.kubernetes, b.created, &b.namespace)));
    }
    (services, endpoints)
}

/// Adds the ports that are new, with their endpoints, and endpoints to ports that are there.
fn merge(old: &mut Service, old_endpoints: &mut Endpoints, new: &Service, endpoints: Endpoints) {
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
