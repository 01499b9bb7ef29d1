//! VirtualServices in the form in which they are looked up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mesh_api::istio::{Object, ObjectMeta, VirtualService};
use mesh_api::names;

use super::delegate::{self, Delegates, Problem, Rule};
use super::host;
use super::rules::config_path;

/// A VirtualService with its names completed.
#[derive(Debug, Clone)]
pub struct Routing {
    /// The object, without its HTTP rules.
    pub object: Object<VirtualService>,
    /// The HTTP rules, with those of delegates.
    pub http: Vec<Rule>,
    /// Delegates whose rules do not apply.
    pub problems: Vec<Problem>,
    /// `hosts`, completed.
    pub hosts: Vec<String>,
    /// `gateways`, completed; `mesh` if there are none.
    pub gateways: Vec<String>,
}

impl Routing {
    /// Completes an object's names.
    fn of(object: &Object<VirtualService>, delegates: &Delegates<'_>, default_export: &[String]) -> Self {
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
        let (http, problems) = delegate::rules(object, delegates, default_export);
        Routing {
            http,
            problems,
            hosts: object.spec.hosts.iter().map(|h| host::resolve(h, namespace)).collect(),
            gateways,
            object: Object {
                meta: object.meta.clone(),
                spec: VirtualService {
                    http: Vec::new(),
                    ..object.spec.clone()
                },
            },
        }
    }

    /// The object in which a rule is written.
    pub fn written_in<'a>(&'a self, rule: &'a Rule) -> &'a ObjectMeta {
        rule.delegate.as_ref().unwrap_or(&self.object.meta)
    }

    /// `VirtualService shop/catalog`, for messages.
    pub fn name(&self) -> String {
        name(&self.object.meta)
    }

    /// What Istio's metadata calls the object.
    pub fn config(&self) -> String {
        config(&self.object.meta)
    }
}

/// `VirtualService shop/catalog`, for messages.
pub fn name(meta: &ObjectMeta) -> String {
    format!("VirtualService {}/{}", meta.namespace, meta.name)
}

/// What Istio's metadata calls a VirtualService.
pub fn config(meta: &ObjectMeta) -> String {
    config_path("virtual-service", meta)
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
    /// Indexes; `objects` come oldest first. Those without hosts are there for others to delegate to.
    pub fn build(objects: &[&Object<VirtualService>], default_export: &[String]) -> Self {
        let delegates = objects.iter().filter(|o| o.spec.hosts.is_empty());
        let delegates: Delegates<'_> = delegates
            .map(|o| ((o.meta.namespace.as_str(), o.meta.name.as_str()), *o))
            .collect();
        let roots = objects.iter().filter(|o| !o.spec.hosts.is_empty());
        let mut out = Routings {
            all: roots
                .map(|object| Arc::new(Routing::of(object, &delegates, default_export)))
                .collect(),
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
