//! What a workload's Sidecar lets it see. Destinations of VirtualServices that it sees are reached too, though they have no
//! listener of their own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_api::istio::{Destination, OutboundTrafficMode};
use mesh_api::mesh_config::MeshOutboundMode;
use mesh_api::names;

use super::context::Context;
use crate::store::host;
use crate::store::routing::Routing;
use crate::store::service::{Resolution, Service, ServicePort};
use crate::store::sidecar::{Egress, View};

/// Hosts that are reached without being seen, with their ports; all of them for an empty set.
pub(super) type Reached = BTreeMap<String, BTreeSet<u16>>;

impl<'a> Context<'a> {
    /// The Sidecar, if it says which hosts are seen.
    fn limits(&self) -> Option<&'a View> {
        self.sidecar.filter(|view| view.limits())
    }

    /// All services that the proxy sees, one for each host, in the order of their hosts.
    pub(super) fn services(&self) -> Box<dyn Iterator<Item = &'a Arc<Service>> + '_> {
        match self.limits() {
            None => Box::new(self.store.services(self.namespace)),
            Some(_) => Box::new(self.store.hosts().filter_map(|host| self.service(host))),
        }
    }

    /// The service with this host that the proxy sees.
    pub(super) fn service(&self, host: &str) -> Option<&'a Arc<Service>> {
        let Some(view) = self.limits() else {
            return self.store.service(host, self.namespace);
        };
        let imported = |s: &Service| view.imports(self.namespace, s);
        let reached = || self.reached().contains_key(host);
        self.store
            .service_that(host, self.namespace, imported)
            .or_else(|| reached().then(|| self.store.service(host, self.namespace))?)
    }

    /// Ports of a service that the proxy has clusters for.
    pub(super) fn ports_of<'s>(&self, service: &'s Service) -> Vec<&'s ServicePort> {
        let limits = self.limits();
        let all = service.ports.iter();
        let seen = all.filter(|port| {
            limits.is_none_or(|view| {
                let reached = || self.reached().get(&service.host);
                view.exposes(self.namespace, service, port.number)
                    || reached().is_some_and(|ports| ports.is_empty() || ports.contains(&port.number))
            })
        });
        seen.collect()
    }

    /// A port of a service as listeners and route tables have it: what is spoken may be said by the Sidecar. `None` if nothing
    /// leads there.
    pub(super) fn port_of<'s>(&self, service: &Service, port: &'s ServicePort) -> Option<Cow<'s, ServicePort>> {
        match self.limits() {
            None => Some(Cow::Borrowed(port)),
            Some(view) => view.port(self.namespace, service, port),
        }
    }

    /// The egress listener by which connections to a port of the service come, if it has an address of its own.
    pub(super) fn egress_of(&self, service: &Service, port: u16) -> Option<&'a Egress> {
        let found = self.limits()?.listener(self.namespace, service, port)?;
        (found.bind.is_some() || found.bound).then_some(found)
    }

    /// Reports egress listeners for a port that nothing has.
    pub(super) fn report_idle_egress(&self, ports: &BTreeSet<u16>) {
        let Some(view) = self.limits() else { return };
        for egress in &view.egress {
            if let Some(port) = egress.port.filter(|p| !ports.contains(p)) {
                self.warn(
                    view.name(),
                    format!("spec.egress[{}].port", egress.index),
                    format!("no service among its hosts has port {port}, so that nothing is opened; write a port of a service"),
                );
            }
        }
    }

    /// VirtualServices of all sidecars that the proxy sees on a port and that name this host, or a wildcard around it; oldest
    /// first.
    pub(super) fn routings_of(&self, host: &str, port: u16) -> impl Iterator<Item = &'a Arc<Routing>> {
        let (view, namespace) = (self.limits(), self.namespace);
        let all = self.store.routings_of(host, namespace);
        all.filter(move |routing| view.is_none_or(|view| view.takes(namespace, routing, Some(port))))
    }

    /// VirtualServices of all sidecars that the proxy sees on a port (on any, if none is given), oldest first.
    pub(super) fn mesh_routings(&self, port: Option<u16>) -> impl Iterator<Item = &'a Arc<Routing>> {
        let (view, namespace) = (self.limits(), self.namespace);
        let all = self.store.routings_at(names::MESH_GATEWAY, namespace);
        all.filter(move |routing| view.is_none_or(|view| view.takes(namespace, routing, port)))
    }

    fn reached(&self) -> &Reached {
        self.reached.get_or_init(|| {
            let mut reached = Reached::new();
            let mut add = |destination: &Destination, namespace: &str| {
                let port = destination.port.as_ref().and_then(|p| u16::try_from(p.number).ok());
                let ports = reached.entry(host::resolve(&destination.host, namespace));
                match port {
                    Some(port) => ports
                        .and_modify(|ports| {
                            if !ports.is_empty() {
                                ports.insert(port);
                            }
                        })
                        .or_insert_with(|| BTreeSet::from([port])),
                    None => ports.and_modify(BTreeSet::clear).or_default(),
                };
            };
            for routing in self.mesh_routings(None) {
                for rule in &routing.http {
                    let namespace = &routing.written_in(rule).namespace;
                    let route = &rule.route;
                    let mirrors = route.mirror.iter().chain(route.mirrors.iter().map(|m| &m.destination));
                    let routed = route.route.iter().map(|r| &r.destination);
                    routed.chain(mirrors).for_each(|d| add(d, namespace));
                }
                let (spec, namespace) = (&routing.object.spec, &routing.object.meta.namespace);
                let tcp = spec.tcp.iter().flat_map(|r| &r.route);
                let tls = spec.tls.iter().flat_map(|r| &r.route);
                tcp.chain(tls).for_each(|r| add(&r.destination, namespace));
            }
            if let Some((view, proxy)) = self.egress_proxy() {
                add(proxy, &view.object.meta.namespace);
            }
            reached
        })
    }

    /// Where the Sidecar sends connections to destinations that nobody knows.
    fn egress_proxy(&self) -> Option<(&'a View, &'a Destination)> {
        let view = self.sidecar?;
        let policy = view.object.spec.outbound_traffic_policy.as_ref()?;
        Some((view, policy.egress_proxy.as_ref()?))
    }

    /// Destinations that nobody knows are refused.
    pub(super) fn registry_only(&self) -> bool {
        let own = self
            .sidecar
            .and_then(|view| view.object.spec.outbound_traffic_policy.as_ref());
        own.map_or(
            self.store.mesh().outbound_traffic_policy.mode == MeshOutboundMode::RegistryOnly,
            |policy| policy.mode == OutboundTrafficMode::RegistryOnly,
        )
    }

    /// Requests for hosts that nobody knows go to the names that they give. A Sidecar's own policy comes before the mesh's.
    pub(super) fn allows_any_name(&self) -> bool {
        let own = self
            .sidecar
            .and_then(|view| view.object.spec.outbound_traffic_policy.as_ref());
        let mode = self.store.mesh().outbound_traffic_policy.mode;
        own.is_none() && mode == MeshOutboundMode::AllowAnyDynamicDns && !self.proxy.is_gateway()
    }

    /// Services whose hosts are looked up for each request, and that requests on a port come to: those that have it, and those
    /// that VirtualServices lead to.
    pub(super) fn looked_up(&self, port: Option<u16>) -> Vec<&'a Arc<Service>> {
        let dynamic = self.services().filter(|s| s.resolution == Resolution::DynamicDns);
        let comes = |service: &Service| {
            let mut http = service.ports.iter().filter(|p| p.protocol.is_http());
            match port {
                None => http.next().is_some(),
                Some(port) => http.any(|p| p.number == port) || self.reached().contains_key(&service.host),
            }
        };
        dynamic.filter(|s| comes(s)).collect()
    }

    /// The cluster for requests to hosts that nobody knows.
    pub(super) fn unknown_http_cluster(&self) -> String {
        if self.allows_any_name() {
            return names::ALLOW_ANY_DYNAMIC_DNS_CLUSTER.to_owned();
        }
        self.unknown_cluster()
    }

    /// The cluster for destinations that nobody knows.
    pub(super) fn unknown_cluster(&self) -> String {
        if self.registry_only() {
            return names::BLACK_HOLE_CLUSTER.to_owned();
        }
        let Some((view, proxy)) = self.egress_proxy() else {
            return names::PASSTHROUGH_CLUSTER.to_owned();
        };
        let host = host::resolve(&proxy.host, &view.object.meta.namespace);
        let service = self.service(&host);
        let named = proxy.port.as_ref().and_then(|p| u16::try_from(p.number).ok());
        let port = named.or_else(|| service?.ports.first().map(|p| p.number));
        let known = service
            .zip(port)
            .filter(|(service, port)| service.port(*port).is_some());
        if known.is_none() {
            self.warn(
                view.name(),
                "spec.outboundTrafficPolicy.egressProxy",
                format!(
                    "{host} is no service that namespace {} sees, or has no such port; connections to unknown destinations fail",
                    self.namespace
                ),
            );
        }
        names::outbound_cluster(port.unwrap_or_default(), &proxy.subset, &host)
    }
}
