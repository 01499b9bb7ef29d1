//! Endpoints of services: from EndpointSlices, else from Pods and WorkloadEntries by selector, or listed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use mesh_api::istio::{Object, ServiceEntry};
use mesh_api::k8s::EndpointSlice;
use mesh_api::names::label;

use super::service::{Resolution, Service, ServicePort, TargetPort};
use super::workload::Workload;

/// One address and port behind a service port.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// IP address or DNS name.
    pub address: String,
    /// Port of the workload.
    pub port: u16,
    /// The workload; made up from what is known for addresses without one.
    pub workload: Arc<Workload>,
}

/// Endpoints of one service by its port number.
pub type Endpoints = BTreeMap<u16, Vec<Endpoint>>;

/// All workloads, with the indices by which services find theirs. Cheap to clone: namespaces are shared.
#[derive(Debug, Clone, Default)]
pub struct Workloads {
    namespaces: BTreeMap<String, Arc<OfNamespace>>,
    /// Made when it is asked for: few meshes list addresses without their Pods.
    by_address: OnceLock<HashMap<String, Arc<Workload>>>,
}

#[derive(Debug, Default)]
struct OfNamespace {
    pods: BTreeMap<String, Arc<Workload>>,
    entries: Vec<Arc<Workload>>,
    /// Pods and WorkloadEntries by label and value.
    by_label: HashMap<String, HashMap<String, Vec<Arc<Workload>>>>,
}

impl Workloads {
    /// The workloads of a namespace are these from now on. Pods are found by their names too.
    pub fn set(
        &mut self,
        namespace: &str,
        pods: impl IntoIterator<Item = Arc<Workload>>,
        entries: impl IntoIterator<Item = Arc<Workload>>,
    ) {
        let mut of = OfNamespace {
            pods: pods.into_iter().map(|p| (p.name.clone(), p)).collect(),
            entries: entries.into_iter().collect(),
            by_label: HashMap::new(),
        };
        for workload in of.pods.values().chain(&of.entries) {
            for (key, value) in &workload.labels {
                let by_value = of.by_label.entry(key.clone()).or_default();
                by_value.entry(value.clone()).or_default().push(workload.clone());
            }
        }
        self.namespaces.insert(namespace.to_owned(), Arc::new(of));
        self.by_address = OnceLock::new();
    }

    /// A Pod by namespace and name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Workload>> {
        self.namespaces.get(namespace)?.pods.get(name)
    }

    /// A workload by one of its addresses.
    pub fn by_address(&self, address: &str) -> Option<&Arc<Workload>> {
        let all = self.by_address.get_or_init(|| {
            let mut all: HashMap<String, Arc<Workload>> = HashMap::new();
            let pods = self.namespaces.values().flat_map(|n| n.pods.values());
            let entries = self.namespaces.values().flat_map(|n| &n.entries);
            for workload in pods.chain(entries) {
                for address in &workload.addresses {
                    // An address may be used again while the old Pod is still listed: the one that takes traffic counts.
                    if all.get(address).is_none_or(|old| !old.ready) {
                        all.insert(address.clone(), workload.clone());
                    }
                }
            }
            all
        });
        all.get(address)
    }

    /// All workloads of a namespace with all of these labels; none for an empty selector.
    pub fn select<'a>(
        &'a self,
        namespace: &str,
        selector: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Arc<Workload>> {
        let of = self.namespaces.get(namespace);
        let first = of.zip(selector.iter().next());
        let candidates = first
            .and_then(|(of, (key, value))| of.by_label.get(key)?.get(value))
            .map(Vec::as_slice)
            .unwrap_or_default();
        candidates.iter().filter(|w| w.matches(selector))
    }
}

/// Endpoints of a Kubernetes Service. With EndpointSlices these alone count.
pub fn of_kubernetes(service: &Service, slices: &[&EndpointSlice], workloads: &Workloads) -> Endpoints {
    let mut endpoints = if let Some(name) = &service.external_name {
        of_name(service, name)
    } else if slices.is_empty() {
        of_selected(service, workloads)
    } else {
        of_slices(service, slices, workloads)
    };
    sort(&mut endpoints);
    endpoints
}

/// Endpoints of a ServiceEntry.
pub fn of_entry(service: &Service, entry: &Object<ServiceEntry>, workloads: &Workloads) -> Endpoints {
    let mut endpoints = if service.selector.is_empty() {
        of_listed(service, entry)
    } else {
        of_selected(service, workloads)
    };
    sort(&mut endpoints);
    endpoints
}

fn sort(endpoints: &mut Endpoints) {
    for list in endpoints.values_mut() {
        list.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
        list.dedup_by(|a, b| a.address == b.address && a.port == b.port);
    }
}

fn of_selected(service: &Service, workloads: &Workloads) -> Endpoints {
    let mut endpoints = Endpoints::new();
    for workload in workloads.select(&service.namespace, &service.selector) {
        if !(workload.ready || service.publish_not_ready) {
            continue;
        }
        let Some(address) = workload.addresses.first().filter(|a| service.takes(a)) else {
            continue;
        };
        for port in &service.ports {
            if let Some(number) = target_port(port, workload) {
                endpoints.entry(port.number).or_default().push(Endpoint {
                    address: address.clone(),
                    port: number,
                    workload: workload.clone(),
                });
            }
        }
    }
    endpoints
}

/// Endpoints of an ExternalName service: the name itself, on the same ports.
fn of_name(service: &Service, name: &str) -> Endpoints {
    let workload = Arc::new(stranger(service, name));
    let endpoint = |port: u16| Endpoint {
        address: name.to_owned(),
        port,
        workload: workload.clone(),
    };
    service
        .ports
        .iter()
        .map(|p| {
            let port = match &p.target {
                TargetPort::Number(number) => *number,
                TargetPort::Name(_) => p.number,
            };
            (p.number, vec![endpoint(port)])
        })
        .collect()
}

fn of_slices(service: &Service, slices: &[&EndpointSlice], workloads: &Workloads) -> Endpoints {
    let mut endpoints = Endpoints::new();
    // Istio and Envoy take no names by EDS.
    for slice in slices.iter().filter(|s| s.address_type != "FQDN") {
        for slice_port in slice.ports.iter().flatten() {
            let name = slice_port.name.as_deref().unwrap_or_default();
            let Some(number) = slice_port.port.and_then(|p| u16::try_from(p).ok()) else {
                continue;
            };
            let Some(port) = service.ports.iter().find(|p| p.name == name) else {
                continue;
            };
            for endpoint in slice.endpoints.iter().flatten() {
                let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
                if !(ready || service.publish_not_ready) {
                    continue;
                }
                let pod = endpoint
                    .target_ref
                    .as_ref()
                    .filter(|r| r.kind.as_deref() == Some("Pod"))
                    .and_then(|r| workloads.pod(&service.namespace, r.name.as_deref()?));
                if pod.is_some_and(|p| p.going) && !service.publish_not_ready {
                    continue;
                }
                for address in &endpoint.addresses {
                    let workload = pod.or_else(|| workloads.by_address(address)).cloned();
                    endpoints.entry(port.number).or_default().push(Endpoint {
                        address: address.clone(),
                        port: number,
                        workload: workload.unwrap_or_else(|| Arc::new(stranger(service, address))),
                    });
                }
            }
        }
    }
    endpoints
}

fn of_listed(service: &Service, entry: &Object<ServiceEntry>) -> Endpoints {
    let mut endpoints = Endpoints::new();
    let by_name = matches!(service.resolution, Resolution::StrictDns | Resolution::LogicalDns);
    for port in &service.ports {
        let list = endpoints.entry(port.number).or_default();
        // One with a network alone is reached by that network's gateway, which is not in force yet.
        for spec in entry.spec.endpoints.iter().filter(|e| service.takes(&e.address)) {
            let workload = Workload::of_entry_spec(spec, &entry.meta.name, &service.namespace);
            if let Some(number) = target_port(port, &workload) {
                list.push(Endpoint {
                    address: spec.address.clone(),
                    port: number,
                    workload: Arc::new(workload),
                });
            }
        }
        // A DNS service that lists nothing is found under its own name.
        if by_name && entry.spec.endpoints.is_empty() {
            let number = match &port.target {
                TargetPort::Number(n) => *n,
                TargetPort::Name(_) => port.number,
            };
            list.push(Endpoint {
                address: service.host.clone(),
                port: number,
                workload: Arc::new(stranger(service, &service.host)),
            });
        }
    }
    endpoints
}

/// Port of a workload behind a service port. A WorkloadEntry may map the service port's name to a port of its own.
pub fn target_port(port: &ServicePort, workload: &Workload) -> Option<u16> {
    match &port.target {
        TargetPort::Name(name) => workload.ports.get(name).copied(),
        TargetPort::Number(_) if workload.entry && workload.ports.contains_key(&port.name) => {
            workload.ports.get(&port.name).copied()
        }
        TargetPort::Number(number) => Some(*number),
    }
}

/// What is known of an address that belongs to no workload.
fn stranger(service: &Service, address: &str) -> Workload {
    Workload {
        name: address.to_owned(),
        namespace: service.namespace.clone(),
        addresses: vec![address.to_owned()],
        owner: service.name.clone(),
        ready: true,
        weight: 1,
        ..Workload::default()
    }
}

/// Whether the workloads behind a slice are found by their addresses, as nothing names their Pods: such workloads may be of any
/// namespace.
pub fn goes_by_address(slice: &EndpointSlice, workloads: &Workloads) -> bool {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    slice.endpoints.iter().flatten().any(|endpoint| {
        let target = endpoint.target_ref.as_ref();
        let pod = target.filter(|r| r.kind.as_deref() == Some("Pod"));
        pod.and_then(|r| workloads.pod(namespace, r.name.as_deref()?)).is_none()
    })
}

/// The service that an EndpointSlice belongs to.
pub fn slice_service(slice: &EndpointSlice) -> Option<&str> {
    slice
        .metadata
        .labels
        .as_ref()?
        .get(label::SERVICE_NAME)
        .map(String::as_str)
}
