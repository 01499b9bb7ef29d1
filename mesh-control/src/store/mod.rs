//! One immutable, indexed snapshot of all objects.
//!
//! A change of any object makes a new [`Store`]. The order in which objects come never matters: where several speak for
//! one thing the oldest wins, then the first by name and namespace.

pub mod change;
pub mod claim;
pub mod delegate;
pub mod endpoint;
pub mod envoy_filter;
pub mod host;
mod index;
pub mod protocol;
pub mod routing;
pub mod rules;
pub mod service;
pub mod sidecar;
#[cfg(test)]
mod tests;
pub mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use mesh_api::istio::{AnyObject, Gateway, MutualTlsMode, Object};
use mesh_api::k8s::Secret;

pub use mesh_api::mesh_config::MeshConfig;

use claim::Claims;
use endpoint::{Endpoints, Workloads};
use envoy_filter::{EnvoyFilters, Filter};
use index::{client_labels, nodes, of_kind, services_of, set_workloads, sorted};
use routing::{Routing, Routings};
use rules::{Mtls, PeerAuthentications, TrafficRule, TrafficRules, age};
use service::Service;
use sidecar::{Sidecars, View};
use workload::Workload;

/// All objects at one instant.
#[derive(Debug, Clone)]
pub struct Store {
    mesh: Arc<MeshConfig>,
    objects: Vec<Arc<AnyObject>>,
    workloads: Workloads,
    endpoints: AllEndpoints,
    /// Namespaces with services whose endpoints may be workloads of other namespaces.
    by_address: BTreeSet<String>,
    /// Addresses that headless services lead to.
    headless: OnceLock<HashSet<String>>,
    rest: Arc<Rest>,
}

/// What does not change with Pods and EndpointSlices.
#[derive(Debug)]
struct Rest {
    /// By host; several where ServiceEntries of different namespaces name one host. Kubernetes Services first, then the oldest.
    services: Services,
    by_namespace: HashMap<String, Vec<Arc<Service>>>,
    claims: Claims,
    routings: Routings,
    rules: TrafficRules,
    authentications: PeerAuthentications,
    gateways: Vec<Object<Gateway>>,
    sidecars: Sidecars,
    envoy_filters: EnvoyFilters,
    secrets: BTreeMap<(String, String), Arc<AnyObject>>,
    /// Labels of clients that any rule asks for.
    client_labels: BTreeSet<String>,
    /// Whether any rule tells near endpoints from far ones.
    asks_locality: bool,
    /// Keys of nodes' metadata that any EnvoyFilter asks for.
    client_metadata: BTreeSet<String>,
}

impl Store {
    /// Indexes the objects. Of several with the same kind, namespace and name the last one counts.
    pub fn build(objects: impl IntoIterator<Item = Arc<AnyObject>>, mesh: Arc<MeshConfig>) -> Self {
        Self::of_sorted(sorted(objects), mesh)
    }

    fn of_sorted(objects: Vec<Arc<AnyObject>>, mesh: Arc<MeshConfig>) -> Self {
        let namespaces: BTreeSet<&str> = objects.iter().map(|o| o.namespace()).collect();
        let mut workloads = Workloads::default();
        let nodes = nodes(&objects);
        for namespace in &namespaces {
            set_workloads(&mut workloads, namespace, &objects, &nodes);
        }
        let mut by_address = BTreeSet::new();
        let mut found: Vec<(Service, Endpoints)> = Vec::new();
        for namespace in &namespaces {
            let (services, elsewhere) = services_of(namespace, &objects, &workloads);
            found.extend(services);
            if elsewhere {
                by_address.insert((*namespace).to_owned());
            }
        }
        service::allocate(found.iter_mut().map(|(s, _)| s));
        let mut services = Services::new();
        let mut by_namespace: HashMap<String, Vec<Arc<Service>>> = HashMap::new();
        let mut endpoints: BTreeMap<String, HashMap<String, Arc<Endpoints>>> = BTreeMap::new();
        for (service, list) in found {
            let of_namespace = endpoints.entry(service.namespace.clone()).or_default();
            of_namespace.insert(service.host.clone(), Arc::new(list));
            let service = Arc::new(service);
            by_namespace
                .entry(service.namespace.clone())
                .or_default()
                .push(service.clone());
            services.entry(service.host.clone()).or_default().push(service);
        }
        for list in services.values_mut() {
            list.sort_by(|a, b| claim::precedence(a, b));
        }
        for list in by_namespace.values_mut() {
            list.sort_by(|a, b| a.host.cmp(&b.host));
        }

        let mut routings: Vec<_> = of_kind!(objects, VirtualService).collect();
        routings.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut rules: Vec<_> = of_kind!(objects, DestinationRule).collect();
        rules.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut authentications: Vec<_> = of_kind!(objects, PeerAuthentication).collect();
        authentications.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut gateways: Vec<_> = of_kind!(objects, Gateway).cloned().collect();
        gateways.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let mut sidecars: Vec<_> = of_kind!(objects, Sidecar).collect();
        sidecars.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let secrets = objects
            .iter()
            .filter(|o| matches!(o.as_ref(), AnyObject::Secret(_)))
            .map(|o| ((o.namespace().to_owned(), o.name().to_owned()), o.clone()))
            .collect();
        let envoy_filters = EnvoyFilters::build(of_kind!(objects, EnvoyFilter));
        let rest = Rest {
            client_labels: client_labels(&routings, &rules, &mesh),
            asks_locality: rules::ask_locality(&rules, &mesh),
            routings: Routings::build(&routings, &mesh.default_virtual_service_export_to),
            client_metadata: envoy_filters.metadata(),
            envoy_filters,
            rules: TrafficRules::build(rules),
            authentications: PeerAuthentications::build(authentications, &mesh.root_namespace),
            claims: Claims::build(&services),
            services,
            by_namespace,
            gateways,
            sidecars: Sidecars::build(sidecars, &mesh.root_namespace),
            secrets,
        };
        Store {
            endpoints: endpoints.into_iter().map(|(ns, list)| (ns, Arc::new(list))).collect(),
            mesh,
            workloads,
            by_address,
            headless: OnceLock::new(),
            rest: Arc::new(rest),
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

    /// All services that a namespace sees, one for each host, in the order of their hosts. A Kubernetes Service comes before
    /// ServiceEntries for its host; of these one of the namespace itself before those of others, then the oldest.
    pub fn services(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.rest
            .services
            .values()
            .filter_map(move |list| self.pick(list, namespace))
    }

    /// All services, whoever sees them; several where ServiceEntries of different namespaces name one host.
    pub fn all_services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.rest.services.values().flatten()
    }

    /// The service with this host that a namespace sees.
    pub fn service(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.pick(self.rest.services.get(host)?, namespace)
    }

    /// As [`Self::service`], among those alone that `keep` takes.
    pub fn service_that(&self, host: &str, viewer: &str, keep: impl Fn(&Service) -> bool) -> Option<&Arc<Service>> {
        self.pick_that(self.rest.services.get(host)?, viewer, keep)
    }

    /// Hosts of all services, in order.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.rest.services.keys().map(String::as_str)
    }

    /// All Sidecars.
    pub fn sidecars(&self) -> &Sidecars {
        &self.rest.sidecars
    }

    /// The Sidecar of a workload.
    pub fn sidecar(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<&View> {
        self.rest.sidecars.of(namespace, labels).map(AsRef::as_ref)
    }

    fn pick<'a>(&self, list: &'a [Arc<Service>], viewer: &str) -> Option<&'a Arc<Service>> {
        self.pick_that(list, viewer, |_| true)
    }

    fn pick_that<'a>(
        &self,
        list: &'a [Arc<Service>],
        viewer: &str,
        keep: impl Fn(&Service) -> bool,
    ) -> Option<&'a Arc<Service>> {
        let default = &self.mesh.default_service_export_to;
        let seen = |s: &&Arc<Service>| host::visible(&s.export_to, default, &s.namespace, viewer) && keep(s);
        let nearest = |s: &&Arc<Service>| (!s.kubernetes, s.namespace != viewer);
        // Of equal ones the first counts, which is the oldest.
        list.iter().filter(seen).min_by_key(nearest)
    }

    /// Addresses and ports that several services say.
    pub fn claims(&self) -> &Claims {
        &self.rest.claims
    }

    /// Services of a namespace whose Pods are those with these labels, or that list one of these addresses.
    pub fn services_of<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
        addresses: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a Arc<Service>> {
        let services = self.rest.by_namespace.get(namespace);
        services.into_iter().flatten().filter(move |s| {
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
        let of_namespace = self.endpoints.get(&service.namespace);
        of_namespace
            .and_then(|list| list.get(&service.host))
            .map_or(&NONE, |e| e)
    }

    /// VirtualServices of a gateway (`mesh`, or `namespace/name`) that a namespace sees, oldest first.
    pub fn routings_at<'a>(
        &'a self,
        gateway: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Routing>> + use<'a> {
        self.rest.routings.at(gateway).filter(move |r| self.sees(r, namespace))
    }

    /// VirtualServices of all sidecars that a namespace sees and that name this host, or a wildcard around it; oldest first.
    pub fn routings_of<'a>(
        &'a self,
        host: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Routing>> + use<'a> {
        self.rest
            .routings
            .of_host(host)
            .filter(move |r| self.sees(r, namespace))
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
        self.rest.rules.find(
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
        self.rest.authentications.resolve(namespace, labels)
    }

    /// The mode of one port of a workload.
    pub fn mtls_of_port(&self, workload: &Workload, port: u16) -> MutualTlsMode {
        self.rest
            .authentications
            .of_port(&workload.namespace, &workload.labels, port)
    }

    /// Labels of a client that any rule asks for; the others make no difference to what it sees.
    pub fn client_labels(&self) -> &BTreeSet<String> {
        &self.rest.client_labels
    }

    /// Whether where a client runs may make a difference to what it sees.
    pub fn asks_locality(&self) -> bool {
        self.rest.asks_locality
    }

    /// Keys of a client's metadata that any EnvoyFilter asks for.
    pub fn client_metadata(&self) -> &BTreeSet<String> {
        &self.rest.client_metadata
    }

    /// EnvoyFilters that workloads of a namespace may have, in the order in which they are applied.
    pub fn envoy_filters<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Filter> {
        self.rest.envoy_filters.seen_by(&self.mesh.root_namespace, namespace)
    }

    /// Whether a headless service leads to this address, so that clients have a listener for it.
    pub fn is_headless_address(&self, address: &str) -> bool {
        let addresses = self.headless.get_or_init(|| {
            let headless = self.rest.services.values().flatten().filter(|s| s.headless);
            let endpoints = headless.flat_map(|s| self.endpoints(s).values().flatten());
            endpoints.map(|e| e.address.clone()).collect()
        });
        addresses.contains(address)
    }

    /// Gateways whose selector takes these labels, oldest first.
    pub fn gateways<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a Object<Gateway>> {
        self.rest
            .gateways
            .iter()
            .filter(move |g| workload::selects(&g.spec.selector, labels))
    }

    /// Whether there is a Gateway of this name, `namespace/name`.
    pub fn has_gateway(&self, name: &str) -> bool {
        self.rest
            .gateways
            .iter()
            .any(|g| name.split_once('/') == Some((&g.meta.namespace, &g.meta.name)))
    }

    /// A Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        match self
            .rest
            .secrets
            .get(&(namespace.to_owned(), name.to_owned()))?
            .as_ref()
        {
            AnyObject::Secret(secret) => Some(&secret.object),
            _ => None,
        }
    }
}

type Services = BTreeMap<String, Vec<Arc<Service>>>;
/// By namespace, then by host.
type AllEndpoints = BTreeMap<String, Arc<HashMap<String, Arc<Endpoints>>>>;
