//! What all parts of one compilation share.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use mesh_api::envoy::pb::envoy::config::cluster::v3::cluster::DnsLookupFamily;
use mesh_api::names::SpiffeId;

use super::sidecar::Reached;
use super::{Proxy, Scope, Warning};
use crate::store::Store;
use crate::store::claim;
use crate::store::envoy_filter::Filter;
use crate::store::rules::{Mtls, TrafficRule};
use crate::store::service::Service;
use crate::store::sidecar::View;

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
    /// EnvoyFilters for it, in the order in which they are applied.
    pub(super) envoy_filters: Vec<&'a Filter>,
    /// Its Sidecar; a gateway has none.
    pub(super) sidecar: Option<&'a View>,
    /// Hosts that VirtualServices lead to, beside those that the Sidecar lets it see.
    pub(super) reached: OnceCell<Reached>,
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
        let labels = pod.map_or(&proxy.labels, |p| &p.labels);
        let envoy_filters = store.envoy_filters(namespace);
        Context {
            store,
            proxy,
            namespace,
            labels,
            envoy_filters: envoy_filters.filter(|f| f.takes(namespace, labels)).collect(),
            locality: pod
                .map(|p| p.locality.as_str())
                .filter(|l| !l.is_empty())
                .unwrap_or(&proxy.locality),
            addresses,
            families,
            sidecar: if proxy.is_gateway() {
                None
            } else {
                store.sidecar(namespace, labels)
            },
            reached: OnceCell::new(),
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
            envoy_filters: scope.envoy_filters(store),
            sidecar: scope.sidecar(store),
            ..Self::new(store, proxy)
        }
    }

    /// Addresses by which the proxy's application reaches a service.
    pub(super) fn addresses_of(&self, service: &Service) -> Vec<IpNet> {
        service.addresses(self.dns_capture, self.proxy.id.ip.is_ipv6())
    }

    /// As [`Self::addresses_of`], for one port: without those that another service has there, which is reported.
    pub(super) fn own_addresses_of(&self, service: &Service, port: u16) -> Vec<IpNet> {
        let seen = |s: &Arc<Service>| self.service(&s.host).is_some_and(|picked| Arc::ptr_eq(picked, s));
        let mut addresses = self.addresses_of(service);
        addresses.retain(|address| {
            let owner = self.store.claims().owner(*address, port, seen);
            let Some(other) = owner.filter(|owner| owner.host != service.host) else {
                return true;
            };
            let (field, message) = claim::refusal(service, *address, port, other);
            self.warn(&service.object, field, message);
            false
        });
        addresses
    }

    /// Addresses that names are looked up for.
    pub(super) fn dns_family(&self) -> DnsLookupFamily {
        match self.families {
            (_, false) => DnsLookupFamily::V4Only,
            (false, true) => DnsLookupFamily::V6Only,
            (true, true) => DnsLookupFamily::All,
        }
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
}
