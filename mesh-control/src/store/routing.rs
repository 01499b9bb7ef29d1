//! VirtualServices in the form in which they are looked up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mesh_api::istio::{Object, VirtualService};
use mesh_api::names;

use super::host;
use super::rules::config_path;

/// A VirtualService with its names completed.
#[derive(Debug, Clone)]
pub struct Routing {
    /// The object.
    pub object: Object<VirtualService>,
    /// `hosts`, completed.
    pub hosts: Vec<String>,
    /// `gateways`, completed; `mesh` if there are none.
    pub gateways: Vec<String>,
}

impl Routing {
    /// Completes an object's names.
    pub fn of(object: &Object<VirtualService>) -> Self {
        let namespace = &object.meta.namespace;
        let gateways = if object.spec.gateways.is_empty() {
            vec![names::MESH_GATEWAY.to_owned()]
        } else {
            object
                .spec
                .gateways
                .iter()
                .map(|g| host::resolve_gateway(g, namespace))
                .collect()
        };
        Routing {
            hosts: object.spec.hosts.iter().map(|h| host::resolve(h, namespace)).collect(),
            gateways,
            object: object.clone(),
        }
    }

    /// `VirtualService shop/catalog`, for messages.
    pub fn name(&self) -> String {
        format!(
            "VirtualService {}/{}",
            self.object.meta.namespace, self.object.meta.name
        )
    }

    /// What Istio's metadata calls the object.
    pub fn config(&self) -> String {
        config_path("virtual-service", &self.object.meta)
    }
}

/// All VirtualServices, oldest first, with the indices by which they are found.
#[derive(Debug, Clone, Default)]
pub struct Routings {
    all: Vec<Arc<Routing>>,
    /// By gateway.
    by_gateway: HashMap<String, Vec<usize>>,
    /// Those of the gateway `mesh`, by full host.
    by_host: HashMap<String, Vec<usize>>,
    /// Those of the gateway `mesh` with wildcards among their hosts.
    wildcards: Vec<(String, usize)>,
}

impl Routings {
    /// Indexes; `objects` come oldest first.
    pub fn build<'a>(objects: impl IntoIterator<Item = &'a Object<VirtualService>>) -> Self {
        let mut out = Routings {
            all: objects.into_iter().map(|o| Arc::new(Routing::of(o))).collect(),
            ..Routings::default()
        };
        for (index, routing) in out.all.iter().enumerate() {
            for gateway in routing.gateways.iter().collect::<BTreeSet<_>>() {
                out.by_gateway.entry(gateway.clone()).or_default().push(index);
            }
            if !routing.gateways.iter().any(|g| g == names::MESH_GATEWAY) {
                continue;
            }
            for host in &routing.hosts {
                if host.starts_with('*') {
                    out.wildcards.push((host.clone(), index));
                } else {
                    out.by_host.entry(host.clone()).or_default().push(index);
                }
            }
        }
        out
    }

    /// Those of a gateway (`mesh`, or `namespace/name`), oldest first.
    pub fn at<'a>(&'a self, gateway: &str) -> impl Iterator<Item = &'a Arc<Routing>> + use<'a> {
        self.by_gateway
            .get(gateway)
            .into_iter()
            .flatten()
            .filter_map(|i| self.all.get(*i))
    }

    /// Those of the gateway `mesh` that name this host or a wildcard around it, oldest first.
    pub fn of_host<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Arc<Routing>> + use<'a> {
        let exact = self.by_host.get(host).into_iter().flatten().copied();
        let around = self.wildcards.iter().filter(|(pattern, _)| host::covers(pattern, host));
        let found: BTreeSet<usize> = exact.chain(around.map(|(_, index)| *index)).collect();
        found.into_iter().filter_map(|i| self.all.get(i))
    }
}
