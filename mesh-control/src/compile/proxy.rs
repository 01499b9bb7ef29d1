//! The proxy that resources are made for.

use std::collections::BTreeMap;

use mesh_api::envoy::pb::envoy::config::core::v3::{Locality, Node};
use mesh_api::envoy::pb::google::protobuf::value::Kind as ValueKind;
use mesh_api::envoy::{ProtoValue, Struct};
use mesh_api::names::{NodeId, NodeIdError, NodeKind};

use crate::store::workload::own_locality;

/// A proxy: what its node message says of it. What the store knows of its Pod is added by [`super::compile`].
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Kind, address, pod, namespace.
    pub id: NodeId,
    /// Labels that the proxy says its pod has; those of the Pod in the store come before them.
    pub labels: BTreeMap<String, String>,
    /// `region/zone/subzone` as its labels or its node message say it, or empty; that of the Pod in the store comes before it.
    pub locality: String,
    /// The node's metadata (`ISTIO_META_*`).
    pub metadata: Struct,
    /// Whether it speaks Istio's metadata exchange, by ALPN `istio-peer-exchange`, at the start of a TCP connection. A plain
    /// Envoy does not, and a peer that agreed on the ALPN would wait for it.
    pub istio_peer_exchange: bool,
    /// Whether it has Istio's network filters for opaque TCP (metadata exchange and metrics). Network filters cannot be
    /// optional: an Envoy without them would refuse the listener.
    pub istio_network_filters: bool,
    /// Whether it is an Envoy, which has all of Envoy's API: patches reach it whole.
    pub envoy: bool,
}

impl Proxy {
    /// A proxy known by its id and labels only. It is sent nothing that a plain Envoy would refuse.
    pub fn new(id: NodeId, labels: BTreeMap<String, String>) -> Self {
        Proxy {
            id,
            locality: own_locality(&labels).unwrap_or_default(),
            labels,
            metadata: Struct::default(),
            istio_peer_exchange: true,
            istio_network_filters: false,
            envoy: false,
        }
    }

    /// The proxy that sent this node message. One that calls itself `envoy` and shows no `ISTIO_VERSION` is taken for a plain Envoy.
    ///
    /// # Errors
    /// When the node's id is not of Istio's form.
    pub fn from_node(node: &Node) -> Result<Self, NodeIdError> {
        let id = NodeId::parse(&node.id)?;
        let metadata = node.metadata.clone().unwrap_or_default();
        let labels = match metadata.fields.get("LABELS").and_then(|v| v.kind.as_ref()) {
            Some(ValueKind::StructValue(labels)) => labels
                .fields
                .iter()
                .filter_map(|(k, v)| Some((k.clone(), text(v)?.to_owned())))
                .collect(),
            _ => BTreeMap::new(),
        };
        let plain = node.user_agent_name == "envoy" && !metadata.fields.contains_key("ISTIO_VERSION");
        Ok(Proxy {
            id,
            locality: own_locality(&labels).unwrap_or_else(|| node.locality.as_ref().map(path).unwrap_or_default()),
            labels,
            metadata,
            istio_peer_exchange: !plain,
            istio_network_filters: !plain,
            envoy: node.user_agent_name == "envoy",
        })
    }

    /// A string of the node's metadata.
    pub fn meta(&self, key: &str) -> Option<&str> {
        text(self.metadata.fields.get(key)?)
    }

    /// Whether it is a gateway.
    pub fn is_gateway(&self) -> bool {
        self.id.kind == NodeKind::Router
    }
}

/// `region/zone/subzone`, up to the first part that is not known.
fn path(locality: &Locality) -> String {
    let parts = [&locality.region, &locality.zone, &locality.sub_zone];
    let known: Vec<&str> = parts
        .into_iter()
        .map(String::as_str)
        .take_while(|p| !p.is_empty())
        .collect();
    known.join("/")
}

fn text(value: &ProtoValue) -> Option<&str> {
    match value.kind.as_ref()? {
        ValueKind::StringValue(text) => Some(text),
        _ => None,
    }
}
