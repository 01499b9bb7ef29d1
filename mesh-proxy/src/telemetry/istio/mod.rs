//! Istio's standard metrics: names, labels in their order, values and buckets as Istio's stats filter has them.
//!
//! A request looks its series up in a cache of its worker, keyed by handles and by the few strings that decide the labels;
//! only a combination that this worker has not seen yet makes label values and asks the [`Store`].

mod labels;
mod store;

use std::sync::{Arc, Weak};
use std::time::Instant;

use hashbrown::Equivalent;

pub use labels::{HTTP_LABELS, Reporter, TCP_LABELS};
pub use store::{HttpSeries, Store, TcpHandles, TcpSeries};

use labels::Facts;
use store::HttpCells;

use super::flags::ResponseFlags;
use super::peer::{self, Peer};
use super::request::{RequestContext, RequestRecord};
use super::tcp::{TcpContext, TcpRecord};
use crate::listener::ConnInfo;
use crate::snapshot::{Cluster, Direction, Map};

/// Entries of a worker's cache. It is emptied when full: what is in use comes back at once.
const MAX_CACHED: usize = 4096;

/// Series that one worker has resolved.
#[derive(Debug, Default)]
pub struct SeriesCache {
    entries: Map<Key<Box<str>>, Entry>,
}

#[derive(Debug)]
struct Entry {
    cells: Arc<HttpCells>,
    // Held so that no other cluster or peer can take their addresses while the key names them.
    _cluster: Option<Weak<Cluster>>,
    _peer: Option<Arc<Peer>>,
}

/// All that the labels of a request depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key<S> {
    reporter: Reporter,
    cluster: usize,
    peer: usize,
    code: u16,
    flags: ResponseFlags,
    grpc: bool,
    grpc_status: Option<u16>,
    mutual: bool,
    /// Source principal, destination principal, workload of the endpoint, authority (when no service is known), cluster name.
    texts: [S; 5],
}

impl Equivalent<Key<Box<str>>> for Key<&str> {
    fn equivalent(&self, other: &Key<Box<str>>) -> bool {
        self.cluster == other.cluster
            && self.peer == other.peer
            && self.code == other.code
            && self.flags == other.flags
            && self.grpc == other.grpc
            && self.grpc_status == other.grpc_status
            && self.mutual == other.mutual
            && self.reporter == other.reporter
            && self.texts.iter().zip(&other.texts).all(|(a, b)| **a == **b)
    }
}

impl Key<&str> {
    fn to_owned(&self) -> Key<Box<str>> {
        Key {
            reporter: self.reporter,
            cluster: self.cluster,
            peer: self.peer,
            code: self.code,
            flags: self.flags,
            grpc: self.grpc,
            grpc_status: self.grpc_status,
            mutual: self.mutual,
            texts: self.texts.map(Box::from),
        }
    }
}

fn reporter(direction: Direction) -> Reporter {
    match direction {
        Direction::Inbound => Reporter::Destination,
        // Gateways do not say; their requests go out.
        Direction::Outbound | Direction::Unspecified => Reporter::Source,
    }
}

/// Who is who on this connection: source principal, destination principal.
fn principals<'a>(
    reporter: Reporter,
    conn: &'a ConnInfo,
    own: Option<&'a str>,
    upstream: Option<&'a Arc<str>>,
) -> (&'a str, &'a str) {
    match reporter {
        Reporter::Source => upstream.map_or(("", ""), |upstream| (own.unwrap_or_default(), upstream)),
        Reporter::Destination => conn.tls.as_ref().filter(|tls| tls.mutual).map_or(("", ""), |tls| {
            let text = |uri: &'a Option<Arc<str>>| uri.as_deref().unwrap_or_default();
            (text(&tls.peer_uri), text(&tls.local_uri))
        }),
    }
}

fn is_mutual(conn: &ConnInfo) -> bool {
    conn.tls.as_ref().is_some_and(|tls| tls.mutual)
}

fn address<T>(arc: Option<&Arc<T>>) -> usize {
    arc.map_or(0, |arc| Arc::as_ptr(arc) as usize)
}

/// Counts a request that has ended.
pub(super) fn request(record: &RequestRecord, ctx: &RequestContext<'_>) {
    let telemetry = ctx.telemetry;
    let Some(own) = &telemetry.node.workload else { return };
    let reporter = reporter(record.direction);
    let (source, destination) = principals(
        reporter,
        ctx.conn,
        telemetry.node.identity.as_deref(),
        record.upstream_principal.as_ref(),
    );
    let service = record.cluster.as_ref().and_then(|c| c.istio.service.as_ref());
    let authority = match (&service, &record.authority) {
        (None, Some(authority)) => authority.to_str().unwrap_or_default(),
        _ => "",
    };
    let endpoint = match (&record.peer, &record.endpoint) {
        (None, Some(endpoint)) => endpoint.workload.as_deref().unwrap_or_default(),
        _ => "",
    };
    let cluster_name = match &record.cluster {
        Some(_) => "",
        None => record.cluster_name.as_deref().unwrap_or_default(),
    };
    let key = Key {
        reporter,
        cluster: address(record.cluster.as_ref()),
        peer: address(record.peer.as_ref()),
        code: record.response_code,
        flags: record.flags,
        grpc: record.grpc,
        grpc_status: record.grpc_status,
        mutual: is_mutual(ctx.conn),
        texts: [source, destination, endpoint, authority, cluster_name],
    };
    let mut cache = telemetry.series.borrow_mut();
    if let Some(entry) = cache.entries.get(&key) {
        record_into(&entry.cells, record);
        return;
    }
    let fallback = peer::from_endpoint(endpoint);
    let facts = Facts {
        reporter,
        own,
        peer: record.peer.as_deref().or(fallback.as_ref()).map(|p| &p.workload),
        source_principal: source,
        destination_principal: destination,
        service,
        authority,
        cluster: record.cluster.as_ref().map_or(cluster_name, |c| &c.name),
        route: record.route.as_ref().map_or("", |r| &r.name),
        protocol: if record.grpc { "grpc" } else { "http" },
        flags: record.flags,
        mutual: key.mutual,
        http: Some((
            record.response_code,
            record.grpc.then_some(record.grpc_status).flatten(),
        )),
    };
    let cells = telemetry.registry.istio.http(telemetry.worker, facts.labels());
    record_into(&cells, record);
    if cache.entries.len() >= MAX_CACHED {
        cache.entries.clear();
    }
    let entry = Entry {
        cells,
        _cluster: record.cluster.as_ref().map(Arc::downgrade),
        _peer: record.peer.clone(),
    };
    cache.entries.insert(key.to_owned(), entry);
}

#[allow(clippy::cast_precision_loss)]
fn record_into(cells: &HttpCells, record: &RequestRecord) {
    let end = record.end.unwrap_or_else(Instant::now);
    let duration = end.saturating_duration_since(record.start);
    cells.requests.inc();
    cells.duration.record(duration.as_secs_f64() * 1000.0);
    cells
        .request_bytes
        .record((record.request_header_bytes + record.bytes_received) as f64);
    cells
        .response_bytes
        .record((record.response_header_bytes + record.bytes_sent) as f64);
    if record.grpc {
        cells.request_messages.add(record.request_messages);
        cells.response_messages.add(record.response_messages);
    }
}

/// Counts a connection that was opened, and resolves where its bytes are counted.
pub(super) fn tcp_opened(record: &TcpRecord, ctx: &TcpContext<'_>) -> Option<TcpHandles> {
    let telemetry = ctx.telemetry;
    let own = telemetry.node.workload.as_ref()?;
    let reporter = reporter(ctx.conn.listener.direction);
    let (source_principal, destination_principal) = principals(
        reporter,
        ctx.conn,
        telemetry.node.identity.as_deref(),
        record.upstream_principal.as_ref(),
    );
    let endpoint = record.endpoint.as_ref().and_then(|e| e.workload.as_deref());
    let fallback = endpoint.and_then(peer::from_endpoint);
    let facts = Facts {
        reporter,
        own,
        peer: record.peer.as_deref().or(fallback.as_ref()).map(|p| &p.workload),
        source_principal,
        destination_principal,
        service: record.cluster.as_ref().and_then(|c| c.istio.service.as_ref()),
        authority: "",
        cluster: record.cluster_name.as_deref().unwrap_or_default(),
        route: "",
        protocol: "tcp",
        flags: record.flags,
        mutual: is_mutual(ctx.conn),
        http: None,
    };
    let handles = telemetry.registry.istio.tcp(telemetry.worker, facts.labels());
    handles.opened();
    Some(handles)
}

#[cfg(test)]
mod tests;
