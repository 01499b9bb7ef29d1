//! What the outbound side of a sidecar depends on. Sidecars with the same scope are sent the same resources for it, which
//! are compiled once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh_api::envoy::ProtoValue;
use mesh_api::envoy::pb::google::protobuf::value::Kind;
use mesh_api::names::{NodeId, NodeKind};

use super::Proxy;
use super::context::Context;
use crate::store::Store;
use crate::store::envoy_filter::Filter;
use crate::store::sidecar::View;

/// Metadata of a node that make a difference in any case.
const METADATA: [&str; 3] = ["CLUSTER_ID", "DNS_CAPTURE", "INTERCEPTION_MODE"];

/// All that [`super::shared`] knows of a proxy, so that nothing else can get in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    namespace: String,
    /// Those that some rule asks for.
    labels: BTreeMap<String, String>,
    /// Where it runs, if any rule makes a difference of that.
    locality: String,
    /// What makes a difference in any case, and what an EnvoyFilter asks for.
    metadata: BTreeMap<String, String>,
    ipv6: bool,
    /// Whether it has an address of IPv4, and of IPv6.
    families: (bool, bool),
    istio_peer_exchange: bool,
    istio_network_filters: bool,
    envoy: bool,
    /// EnvoyFilters for it, by namespace and name: not the labels that they ask for, of which each workload has others.
    envoy_filters: BTreeSet<(String, String)>,
    /// Namespace and name of its Sidecar: not the labels that this asks for.
    sidecar: Option<(String, String)>,
    /// Own addresses that headless services lead to: there is no listener for these.
    addresses: BTreeSet<String>,
}

impl Scope {
    /// The scope of a sidecar; `None` for a gateway.
    pub fn of(store: &Store, proxy: &Proxy) -> Option<Self> {
        if proxy.is_gateway() {
            return None;
        }
        let ctx = Context::new(store, proxy);
        let asked = store.client_labels().iter();
        let labels = asked.filter_map(|key| Some((key.clone(), ctx.labels.get(key)?.clone())));
        let patched = store.client_metadata().iter().map(String::as_str);
        let metadata = METADATA.into_iter().chain(patched);
        Some(Scope {
            namespace: ctx.namespace.to_owned(),
            labels: labels.collect(),
            locality: if store.asks_locality() {
                ctx.locality.to_owned()
            } else {
                String::new()
            },
            metadata: metadata
                .filter_map(|key| Some((key.to_owned(), proxy.meta(key)?.to_owned())))
                .collect(),
            ipv6: proxy.id.ip.is_ipv6(),
            families: ctx.families,
            istio_peer_exchange: proxy.istio_peer_exchange,
            istio_network_filters: proxy.istio_network_filters,
            envoy: proxy.envoy,
            envoy_filters: ctx.envoy_filters.iter().map(|f| name(f)).collect(),
            sidecar: ctx.sidecar.map(View::key),
            addresses: ctx
                .addresses
                .iter()
                .filter(|a| store.is_headless_address(a))
                .cloned()
                .collect(),
        })
    }

    /// A proxy that stands for all of the scope. No Pod has an empty name.
    pub(super) fn proxy(&self) -> Proxy {
        let ip = if self.ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let id = NodeId {
            kind: NodeKind::Sidecar,
            ip,
            pod: String::new(),
            namespace: self.namespace.clone(),
            domain: String::new(),
        };
        let mut proxy = Proxy::new(id, self.labels.clone());
        proxy.locality.clone_from(&self.locality);
        proxy.istio_peer_exchange = self.istio_peer_exchange;
        proxy.istio_network_filters = self.istio_network_filters;
        proxy.envoy = self.envoy;
        let text = |text: &String| ProtoValue {
            kind: Some(Kind::StringValue(text.clone())),
        };
        let metadata = self.metadata.iter().map(|(key, value)| (key.clone(), text(value)));
        proxy.metadata.fields.extend(metadata);
        proxy
    }

    pub(super) fn envoy_filters<'a>(&self, store: &'a Store) -> Vec<&'a Filter> {
        let all = store.envoy_filters(&self.namespace);
        all.filter(|f| self.envoy_filters.contains(&name(f))).collect()
    }

    pub(super) fn sidecar<'a>(&self, store: &'a Store) -> Option<&'a View> {
        store.sidecars().named(self.sidecar.as_ref()?).map(AsRef::as_ref)
    }

    pub(super) fn families(&self) -> (bool, bool) {
        self.families
    }

    pub(super) fn addresses(&self) -> &BTreeSet<String> {
        &self.addresses
    }
}

fn name(filter: &Filter) -> (String, String) {
    (filter.namespace.clone(), filter.name.clone())
}
