//! Sidecars in the form in which they are looked up: which one a workload has, and what it lets the workload see.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_api::istio::{CaptureMode, Object, ObjectMeta, Sidecar};

use super::host;
use super::protocol::Protocol;
use super::routing::Routing;
use super::service::{Service, ServicePort};
use super::workload::selects;

/// What a Sidecar says, with its egress listeners read.
#[derive(Debug, Clone)]
pub struct View {
    /// The object.
    pub object: Object<Sidecar>,
    /// Egress listeners that can be made; none of them: everything is seen.
    pub egress: Vec<Egress>,
    /// It says nothing of egress.
    open: bool,
}

/// One egress listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Its place in `egress`.
    pub index: usize,
    /// The one port that it is for; `None` for all that the others leave.
    pub port: Option<u16>,
    /// What is spoken there, if it says so.
    pub protocol: Option<Protocol>,
    /// Address to listen on, in place of those of the services.
    pub bind: Option<String>,
    /// The application addresses the listener itself.
    pub bound: bool,
    /// Namespace (`*`, `.` or a name) and host, perhaps a wildcard.
    hosts: Vec<(String, String)>,
}

impl Egress {
    /// Whether it names something of a namespace with this host. `.` is the namespace of the workload.
    fn names(&self, viewer: &str, namespace: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.hosts.iter().any(|(of, pattern)| {
            let here = match of.as_str() {
                "*" => true,
                "." => namespace == viewer,
                named => namespace == named,
            };
            here && fits(pattern)
        })
    }

    fn imports(&self, viewer: &str, service: &Service) -> bool {
        self.names(viewer, &service.namespace, |pattern| {
            host::covers(pattern, &service.host)
        })
    }
}

impl View {
    fn read(object: &Object<Sidecar>) -> Self {
        let listeners = object.spec.egress.iter().enumerate();
        let egress = listeners
            .filter(|(_, l)| !l.bind.starts_with("unix://"))
            .map(|(index, l)| {
                let port = l.port.as_ref();
                let number = port.and_then(|p| u16::try_from(p.number).ok()).filter(|n| *n > 0);
                Egress {
                    index,
                    port: number,
                    protocol: port.and_then(|p| Protocol::parse(&p.protocol)),
                    bind: number.and(Some(l.bind.clone())).filter(|b| !b.is_empty()),
                    bound: number.is_some() && l.capture_mode == CaptureMode::None,
                    hosts: l
                        .hosts
                        .iter()
                        .filter_map(|h| h.split_once('/'))
                        .filter(|(namespace, _)| *namespace != "~")
                        .map(|(namespace, host)| (namespace.to_owned(), host.to_owned()))
                        .collect(),
                }
            });
        View {
            egress: egress.collect(),
            open: object.spec.egress.is_empty(),
            object: object.clone(),
        }
    }

    /// `Sidecar shop/default`, for messages.
    pub fn name(&self) -> String {
        let ObjectMeta { namespace, name, .. } = &self.object.meta;
        format!("Sidecar {namespace}/{name}")
    }

    /// Namespace and name.
    pub fn key(&self) -> (String, String) {
        (self.object.meta.namespace.clone(), self.object.meta.name.clone())
    }

    /// Whether it says which hosts are seen.
    pub fn limits(&self) -> bool {
        !self.open
    }

    /// Whether a workload of namespace `viewer` sees a service.
    pub fn imports(&self, viewer: &str, service: &Service) -> bool {
        self.open || self.egress.iter().any(|e| e.imports(viewer, service))
    }

    /// Whether it sees this port of the service.
    pub fn exposes(&self, viewer: &str, service: &Service, port: u16) -> bool {
        let mut fitting = self.egress.iter().filter(|e| e.port.is_none_or(|p| p == port));
        self.open || fitting.any(|e| e.imports(viewer, service))
    }

    /// The egress listener by which connections to a port of the service come. One for the port itself keeps the port from the
    /// one for all others.
    pub fn listener(&self, viewer: &str, service: &Service, port: u16) -> Option<&Egress> {
        self.at(port).find(|e| e.imports(viewer, service))
    }

    /// Egress listeners of a port: its own, else those of all that the others leave.
    fn at(&self, port: u16) -> impl Iterator<Item = &Egress> {
        let own = self.egress.iter().any(|e| e.port == Some(port));
        let wanted = own.then_some(port);
        self.egress.iter().filter(move |e| e.port == wanted)
    }

    /// A port of the service as the workload sees it; `None` if no listener leads there.
    pub fn port<'s>(&self, viewer: &str, service: &Service, port: &'s ServicePort) -> Option<Cow<'s, ServicePort>> {
        let protocol = if self.open {
            None
        } else {
            self.listener(viewer, service, port.number)?.protocol
        };
        Some(match protocol {
            Some(protocol) if protocol != port.protocol => Cow::Owned(ServicePort {
                protocol,
                ..port.clone()
            }),
            _ => Cow::Borrowed(port),
        })
    }

    /// Whether a VirtualService counts for connections to a port; to any port, if none is given.
    pub fn takes(&self, viewer: &str, routing: &Routing, port: Option<u16>) -> bool {
        let namespace = &routing.object.meta.namespace;
        let any = |pattern: &str| routing.hosts.iter().any(|h| host::overlap(pattern, h));
        let takes = |e: &Egress| e.names(viewer, namespace, any);
        self.open
            || match port {
                Some(port) => self.at(port).any(takes),
                None => self.egress.iter().any(takes),
            }
    }
}

/// All Sidecars.
#[derive(Debug, Clone, Default)]
pub struct Sidecars {
    namespaces: HashMap<String, OfNamespace>,
    root: Option<Arc<View>>,
}

#[derive(Debug, Clone, Default)]
struct OfNamespace {
    /// With a selector, oldest first.
    selective: Vec<(BTreeMap<String, String>, Arc<View>)>,
    /// The oldest for all workloads.
    whole: Option<Arc<View>>,
}

impl Sidecars {
    /// Indexes; `objects` come oldest first.
    pub(super) fn build<'a>(objects: impl IntoIterator<Item = &'a Object<Sidecar>>, root: &str) -> Self {
        let mut out = Sidecars::default();
        for object in objects {
            let view = Arc::new(View::read(object));
            let of = out.namespaces.entry(object.meta.namespace.clone()).or_default();
            match &object.spec.workload_selector {
                Some(selector) if !selector.labels.is_empty() => of.selective.push((selector.labels.clone(), view)),
                _ => _ = of.whole.get_or_insert(view),
            }
        }
        out.root = out.namespaces.get(root).and_then(|of| of.whole.clone());
        out
    }

    /// The one of a workload: one that selects it, else its namespace's, else that of the root namespace.
    pub fn of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<&Arc<View>> {
        let own = self.namespaces.get(namespace);
        let selective = own.into_iter().flat_map(|of| &of.selective);
        let mut selected = selective
            .filter(|(selector, _)| selects(selector, labels))
            .map(|(_, view)| view);
        let whole = || own.and_then(|of| of.whole.as_ref());
        selected.next().or_else(whole).or(self.root.as_ref())
    }

    /// The one with this namespace and name.
    pub fn named(&self, key: &(String, String)) -> Option<&Arc<View>> {
        let of = self.namespaces.get(&key.0)?;
        let selective = of.selective.iter().map(|(_, view)| view);
        let mut all = selective.chain(&of.whole);
        all.find(|view| view.object.meta.name == key.1)
    }
}
