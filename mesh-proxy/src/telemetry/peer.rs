//! Peer metadata: how two proxies of the mesh tell each other which workload they stand for.
//!
//! HTTP carries it in two headers, TCP in a prefix on connections with ALPN `istio-peer-exchange`. Applications neither
//! see nor set it, and strangers neither receive it nor are believed.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_api::envoy::pb::google::protobuf::value::Kind;
use mesh_api::envoy::{Any, ProtoValue, Struct};
use mesh_api::names;
use prost::Message;

use super::WorkerTelemetry;
use crate::shared::Workload;
use crate::snapshot::{ClientTls, Cluster, Map, Transport};

/// Base64 of a serialized `google.protobuf.Struct`.
pub const METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
/// Node id of the sender.
pub const METADATA_ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");
/// ALPN that announces the prefix on TCP.
pub const ALPN: &[u8] = b"istio-peer-exchange";

/// Longest metadata that is read, of either form. Istio's own is below 2 KiB.
const MAX_BYTES: usize = 16 * 1024;
/// Decoded values that one worker keeps; callers of one workload are few.
const MAX_CACHED: usize = 1024;
/// First word of the TCP prefix.
const TCP_MAGIC: u32 = 0x3D23_0467;
const TCP_HEADER: usize = 8;
const STRUCT_URL: &str = "type.googleapis.com/google.protobuf.Struct";

/// Labels of a workload that travel; the others are nobody's business.
const SENT_LABELS: [&str; 4] = [
    names::label::CANONICAL_NAME,
    names::label::CANONICAL_REVISION,
    "app",
    "version",
];

/// The other side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Node id, may be empty.
    pub id: String,
    /// What it says of itself.
    pub workload: Workload,
}

/// Decoded header values of one worker.
#[derive(Debug, Default)]
pub struct PeerCache(Map<Bytes, Option<Arc<Peer>>>);

/// Our own metadata in its wire forms.
#[derive(Debug, Clone)]
pub struct OwnMetadata {
    metadata: HeaderValue,
    id: HeaderValue,
    tcp: Bytes,
}

impl OwnMetadata {
    /// Encodes it.
    pub fn new(id: &str, workload: &Workload) -> Self {
        let node = names::NodeId::parse(id);
        let pod = node.as_ref().map_or(workload.name.as_str(), |n| n.pod.as_str());
        let fields = workload_struct(pod, workload);
        let text = STANDARD.encode(fields.encode_to_vec());
        OwnMetadata {
            // Base64 is always a header value; a node id with control characters is left out.
            metadata: HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("")),
            id: HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("")),
            tcp: encode_tcp(id, fields),
        }
    }

    fn add(&self, headers: &mut HeaderMap) {
        headers.insert(METADATA, self.metadata.clone());
        headers.insert(METADATA_ID, self.id.clone());
    }
}

/// Request towards an upstream (outbound), after [`strip`]: ours is added when the upstream may see it, over TLS of the mesh or
/// to a service of the mesh. External services and original destinations learn nothing.
pub fn outbound_request(
    headers: &mut HeaderMap,
    cluster: &Cluster,
    transport: &Transport,
    telemetry: &WorkerTelemetry,
) {
    if let Some(own) = &telemetry.own
        && is_mesh(cluster, transport)
    {
        own.add(headers);
    }
}

/// Response from an upstream (outbound): what it says of itself, believed when `trusted` (it proved a mesh identity);
/// never shown to the application.
pub fn outbound_response(headers: &mut HeaderMap, trusted: bool, telemetry: &WorkerTelemetry) -> Option<Arc<Peer>> {
    take(headers, trusted, telemetry)
}

/// Request from a caller (inbound): what it says of itself, believed when `trusted` (mutual TLS); never shown to the
/// application.
pub fn inbound_request(headers: &mut HeaderMap, trusted: bool, telemetry: &WorkerTelemetry) -> Option<Arc<Peer>> {
    take(headers, trusted, telemetry)
}

/// Response to a caller (inbound), after [`strip`]: ours, when the caller told its own (`exchanged`: [`inbound_request`] gave
/// a peer).
pub fn inbound_response(headers: &mut HeaderMap, exchanged: bool, telemetry: &WorkerTelemetry) {
    if exchanged && let Some(own) = &telemetry.own {
        own.add(headers);
    }
}

/// The prefix to send on a TCP connection whose ALPN is [`ALPN`].
pub fn tcp_prefix(telemetry: &WorkerTelemetry) -> Option<Bytes> {
    telemetry.own.as_ref().map(|own| own.tcp.clone())
}

/// The workload that an endpoint's EDS metadata names: `workload;namespace;canonical-name;canonical-revision;cluster`.
pub fn from_endpoint(workload: &str) -> Option<Peer> {
    let mut parts = workload.split(';').map(str::to_owned);
    let name = parts.next()?;
    let namespace = parts.next()?;
    let canonical_name = parts.next().unwrap_or_default();
    let canonical_revision = parts.next().filter(|r| !r.is_empty());
    let cluster_id = parts.next().unwrap_or_default();
    Some(Peer {
        id: String::new(),
        workload: Workload {
            name,
            namespace,
            canonical_name,
            canonical_revision: canonical_revision.unwrap_or_else(|| "latest".to_owned()),
            cluster_id,
            ..Workload::default()
        },
    })
}

fn is_mesh(cluster: &Cluster, transport: &Transport) -> bool {
    let stranger = cluster.istio.external || !cluster.discovery.lists_endpoints();
    // TLS that is not the mesh's own (a DestinationRule with SIMPLE to the outside) offers no mesh ALPN.
    let meshed = |tls: &Arc<ClientTls>| tls.alpn.iter().any(|p| p == b"istio" || p == ALPN);
    transport.tls().is_some_and(meshed) || !stranger && is_service(cluster)
}

fn is_service(cluster: &Cluster) -> bool {
    cluster.istio.service.is_some()
}

/// Takes away what a message says of its sender.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(METADATA);
    headers.remove(METADATA_ID);
}

fn take(headers: &mut HeaderMap, trusted: bool, telemetry: &WorkerTelemetry) -> Option<Arc<Peer>> {
    let metadata = headers.remove(METADATA);
    let id = headers.remove(METADATA_ID);
    if !trusted {
        return None;
    }
    let metadata = metadata?;
    if metadata.len() > MAX_BYTES {
        return None;
    }
    let mut cache = telemetry.peers.borrow_mut();
    if let Some(found) = cache.0.get(metadata.as_bytes()) {
        return found.clone();
    }
    let id = id.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default();
    let peer = decode_header(metadata.as_bytes(), id).map(Arc::new);
    if cache.0.len() >= MAX_CACHED {
        cache.0.clear();
    }
    cache
        .0
        .insert(Bytes::copy_from_slice(metadata.as_bytes()), peer.clone());
    peer
}

fn decode_header(value: &[u8], id: &str) -> Option<Peer> {
    let bytes = STANDARD.decode(value).ok()?;
    let fields = Struct::decode(bytes.as_slice()).ok()?;
    Some(Peer {
        id: id.to_owned(),
        workload: read_struct(&fields),
    })
}

/// What the first bytes of a connection with ALPN [`ALPN`] are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpPrefix {
    /// More bytes are needed.
    Partial,
    /// No prefix: all bytes are the application's.
    None,
    /// A prefix of this many bytes; the peer, when it could be read.
    Read(usize, Option<Arc<Peer>>),
    /// Longer than is believed: close the connection.
    TooLong(usize),
}

/// Reads the prefix from the start of a connection.
pub fn decode_tcp(input: &[u8]) -> TcpPrefix {
    let magic = TCP_MAGIC.to_be_bytes();
    let seen = input.len().min(magic.len());
    if input[..seen] != magic[..seen] {
        return TcpPrefix::None;
    }
    let Some(length) = input.get(4..TCP_HEADER).and_then(|b| b.try_into().ok()) else {
        return TcpPrefix::Partial;
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_BYTES {
        return TcpPrefix::TooLong(length);
    }
    match input.get(TCP_HEADER..TCP_HEADER + length) {
        None => TcpPrefix::Partial,
        Some(payload) => TcpPrefix::Read(TCP_HEADER + length, decode_any(payload).map(Arc::new)),
    }
}

fn decode_any(payload: &[u8]) -> Option<Peer> {
    let any = Any::decode(payload).ok()?;
    if any.type_url != STRUCT_URL {
        return None;
    }
    let outer = Struct::decode(any.value.as_slice()).ok()?;
    let Kind::StructValue(fields) = outer.fields.get(METADATA.as_str())?.kind.as_ref()? else {
        return None;
    };
    Some(Peer {
        id: text(&outer, METADATA_ID.as_str()).to_owned(),
        workload: read_struct(fields),
    })
}

fn encode_tcp(id: &str, fields: Struct) -> Bytes {
    let outer = Struct {
        fields: [
            (METADATA.as_str().to_owned(), value(Kind::StructValue(fields))),
            string(METADATA_ID.as_str(), id),
        ]
        .into(),
    };
    let any = Any {
        type_url: STRUCT_URL.to_owned(),
        value: outer.encode_to_vec(),
    }
    .encode_to_vec();
    let length = u32::try_from(any.len()).unwrap_or(u32::MAX);
    [&TCP_MAGIC.to_be_bytes(), length.to_be_bytes().as_slice(), &any]
        .concat()
        .into()
}

fn workload_struct(pod: &str, w: &Workload) -> Struct {
    let mut labels: Vec<(String, ProtoValue)> = SENT_LABELS
        .iter()
        .filter_map(|key| w.labels.get(*key).map(|v| string(key, v)))
        .collect();
    let has = |labels: &[(String, ProtoValue)], key: &str| labels.iter().any(|(k, _)| k == key);
    for (key, known) in [
        (names::label::CANONICAL_NAME, &w.canonical_name),
        (names::label::CANONICAL_REVISION, &w.canonical_revision),
    ] {
        if !has(&labels, key) && !known.is_empty() {
            labels.push(string(key, known));
        }
    }
    let labels = Struct {
        fields: labels.into_iter().collect(),
    };
    Struct {
        fields: [
            string("NAME", pod),
            string("NAMESPACE", &w.namespace),
            string("WORKLOAD_NAME", &w.name),
            string("OWNER", &w.owner),
            string("CLUSTER_ID", &w.cluster_id),
            ("LABELS".to_owned(), value(Kind::StructValue(labels))),
        ]
        .into(),
    }
}

fn read_struct(fields: &Struct) -> Workload {
    let labels = match fields.fields.get("LABELS").and_then(|v| v.kind.as_ref()) {
        Some(Kind::StructValue(labels)) => labels
            .fields
            .iter()
            .filter_map(|(k, v)| match &v.kind {
                Some(Kind::StringValue(v)) => Some((k.clone(), v.clone())),
                _ => None,
            })
            .collect(),
        _ => std::collections::BTreeMap::new(),
    };
    let label = |keys: &[&str]| keys.iter().find_map(|k| labels.get(*k)).filter(|v| !v.is_empty());
    let name = text(fields, "WORKLOAD_NAME").to_owned();
    Workload {
        namespace: text(fields, "NAMESPACE").to_owned(),
        canonical_name: label(&[names::label::CANONICAL_NAME, "app.kubernetes.io/name", "app"])
            .unwrap_or(&name)
            .clone(),
        canonical_revision: label(&[names::label::CANONICAL_REVISION, "app.kubernetes.io/version", "version"])
            .map_or_else(|| "latest".to_owned(), Clone::clone),
        app: label(&["app"]).cloned().unwrap_or_default(),
        version: label(&["version"]).cloned().unwrap_or_default(),
        cluster_id: text(fields, "CLUSTER_ID").to_owned(),
        owner: text(fields, "OWNER").to_owned(),
        name,
        labels,
    }
}

fn text<'a>(fields: &'a Struct, key: &str) -> &'a str {
    match fields.fields.get(key).and_then(|v| v.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text,
        _ => "",
    }
}

fn value(kind: Kind) -> ProtoValue {
    ProtoValue { kind: Some(kind) }
}

fn string(key: &str, text: &str) -> (String, ProtoValue) {
    (key.to_owned(), value(Kind::StringValue(text.to_owned())))
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
