//! What all parts of one compilation share.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use mesh_api::mesh_config::MeshOutboundMode;
use mesh_api::names::{self, SpiffeId};

use super::{Proxy, Scope, Warning};
use crate::store::Store;
use crate::store::rules::{Mtls, TrafficRule};
use crate::store::service::Service;

/// Beginning of the SDS names of Secrets from Kubernetes.
pub(super) const KUBERNETES: &str = "kubernetes://";

/// One compilation.
pub(super) struct Context<'a> {
    pub(super) store: &'a Store,
    pub(super) proxy: &'a Proxy,
    /// Namespace of the proxy.
    pub(super) namespace: &'a str,
    /// Labels of its Pod: from the store, else what it said itself.
    pub(super) labels: &'a BTreeMap<String, String>,
    /// Where it runs, `region/zone/subzone` or empty: from its Pod and that Pod's Node, else what it said itself.
    pub(super) locality: &'a str,
    /// Its addresses.
    pub(super) addresses: BTreeSet<String>,
    /// Whether the proxy has an address of IPv4, and of IPv6.
    pub(super) families: (bool, bool),
    /// The application's DNS questions come to the proxy, which answers with addresses made by the control plane.
    pub(super) dns_capture: bool,
    warnings: RefCell<BTreeSet<Warning>>,
    /// Secrets that resources name, with the objects and fields that want them.
    secrets: RefCell<BTreeMap<String, BTreeSet<(String, String)>>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(store: &'a Store, proxy: &'a Proxy) -> Self {
        let namespace = proxy.id.namespace.as_str();
        let pod = store.pod(namespace, &proxy.id.pod);
        let mut addresses = BTreeSet::from([proxy.id.ip.to_string()]);
        addresses.extend(pod.iter().flat_map(|p| p.addresses.iter().cloned()));
        let v6 = |address: &String| address.contains(':');
        let families = (!addresses.iter().all(v6), addresses.iter().any(v6));
        Context {
            store,
            proxy,
            namespace,
            labels: pod.map_or(&proxy.labels, |p| &p.labels),
            locality: pod
                .map(|p| p.locality.as_str())
                .filter(|l| !l.is_empty())
                .unwrap_or(&proxy.locality),
            addresses,
            families,
            dns_capture: proxy.meta("DNS_CAPTURE") == Some("true"),
            warnings: RefCell::default(),
            secrets: RefCell::default(),
        }
    }

    /// For what all sidecars of a scope share: of the proxy it knows only what `scope` and its own form of it, `proxy`, say.
    pub(super) fn of_scope(store: &'a Store, scope: &Scope, proxy: &'a Proxy) -> Self {
        Context {
            labels: &proxy.labels,
            addresses: scope.addresses().clone(),
            families: scope.families(),
            ..Self::new(store, proxy)
        }
    }

    /// All services that the proxy sees, one for each host, in the order of their hosts.
    pub(super) fn services(&self) -> impl Iterator<Item = &'a Arc<Service>> {
        self.store.services(self.namespace)
    }

    /// The service with this host that the proxy sees.
    pub(super) fn service(&self, host: &str) -> Option<&'a Arc<Service>> {
        self.store.service(host, self.namespace)
    }

    /// Addresses by which the proxy's application reaches a service.
    pub(super) fn addresses_of(&self, service: &Service) -> Vec<IpNet> {
        service.addresses(self.dns_capture, self.proxy.id.ip.is_ipv6())
    }

    /// Notes something that is not in force.
    pub(super) fn warn(&self, object: impl Into<String>, field: impl Into<String>, message: impl Into<String>) {
        self.warnings.borrow_mut().insert(Warning {
            object: object.into(),
            field: field.into(),
            message: message.into(),
        });
    }

    /// The SDS name of a Kubernetes Secret, which the proxy is sent because of this field of this object.
    pub(super) fn want_secret(&self, name: &str, object: &str, field: &str) -> String {
        let mut secrets = self.secrets.borrow_mut();
        let wanted = secrets.entry(name.to_owned()).or_default();
        wanted.insert((object.to_owned(), field.to_owned()));
        format!("{KUBERNETES}{name}")
    }

    /// All Secrets that are wanted, with the objects and fields that want them.
    pub(super) fn wanted_secrets(&self) -> BTreeMap<String, BTreeSet<(String, String)>> {
        self.secrets.borrow().clone()
    }

    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.warnings.into_inner().into_iter().collect()
    }

    /// The DestinationRule that the proxy uses for a service.
    pub(super) fn rule(&self, service: &Service) -> Option<&'a TrafficRule> {
        self.store.rule(service, self.namespace, self.labels).map(AsRef::as_ref)
    }

    /// Mutual TLS of the proxy's own workload.
    pub(super) fn mtls(&self) -> Mtls {
        self.store.mtls(self.namespace, self.labels)
    }

    /// A named port of the proxy's own Pod.
    pub(super) fn named_port(&self, name: &str) -> Option<u16> {
        self.store
            .pod(self.namespace, &self.proxy.id.pod)
            .and_then(|p| p.ports.get(name).copied())
    }

    /// Identities of a service account, in the mesh's own trust domain and its aliases.
    pub(super) fn identities(&self, namespace: &str, account: &str) -> Vec<String> {
        let mesh = self.store.mesh();
        std::iter::once(mesh.trust_domain.as_str())
            .chain(mesh.trust_domain_aliases.iter().map(String::as_str))
            .map(|trust_domain| {
                SpiffeId {
                    trust_domain: trust_domain.to_owned(),
                    namespace: namespace.to_owned(),
                    service_account: account.to_owned(),
                }
                .to_string()
            })
            .collect()
    }

    /// ALPN tokens by which sidecars know each other.
    pub(super) fn mesh_alpn(&self) -> Vec<String> {
        let peer = self.proxy.istio_peer_exchange.then_some("istio-peer-exchange");
        peer.into_iter().chain(["istio"]).map(str::to_owned).collect()
    }

    /// Destinations that nobody knows are refused.
    pub(super) fn registry_only(&self) -> bool {
        self.store.mesh().outbound_traffic_policy.mode == MeshOutboundMode::RegistryOnly
    }

    /// The cluster for destinations that nobody knows.
    pub(super) fn unknown_cluster(&self) -> &'static str {
        if self.registry_only() {
            names::BLACK_HOLE_CLUSTER
        } else {
            names::PASSTHROUGH_CLUSTER
        }
    }
}
