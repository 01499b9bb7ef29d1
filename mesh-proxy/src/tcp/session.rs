//! One opaque connection: cluster, endpoint, connection, and the books on it.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::copy::{End, Tally, Totals, copy_both};
use super::exchange::{Exchanged, PeerSlot};
use super::stream::ByteStream;
use super::tunnel::{self, TunnelError};
use crate::dns::Unresolved;
use crate::http::hash_of_address;
use crate::listener::ConnInfo;
use crate::snapshot::{Cluster, Discovery, Endpoint, NetworkFilter, TcpProxy};
use crate::telemetry::flags::ResponseFlags;
use crate::telemetry::peer;
use crate::telemetry::stats::TcpStats;
use crate::telemetry::tcp::{REPORT_INTERVAL, TcpContext, TcpRecord, closed, opened, progress};
use crate::upstream::outlier::{Outcome, observe};
use crate::upstream::{ConnectError, ConnectOptions, PickContext, UpstreamIo, connect, pick};
use crate::worker::Worker;

/// How long metrics wait for the other side's metadata; bytes never do.
const PEER_WAIT: Duration = Duration::from_secs(1);

/// Serves one downstream connection until it ends.
pub async fn serve_connection<I>(io: I, conn: Rc<ConnInfo>, proxy: Arc<TcpProxy>, worker: Rc<Worker>)
where
    I: ByteStream + 'static,
{
    let stats = worker.telemetry.tcp_stats(&proxy.stat_prefix);
    stats.downstream_cx_total.inc();
    let books = Books {
        record: RefCell::new(TcpRecord::new()),
        totals: Totals {
            received: Tally::new(&stats.downstream_cx_rx_bytes_total),
            sent: Tally::new(&stats.downstream_cx_tx_bytes_total),
        },
        opened: std::cell::Cell::new(false),
        stats,
        conn,
        proxy,
        worker,
    };
    if let Err(error) = run(io, &books).await {
        tracing::debug!(
            listener = %books.conn.listener.name, remote = %books.conn.remote, destination = %books.conn.destination,
            "connection not forwarded: {error}"
        );
    }
}

/// What is known of the connection; closed exactly once, also when the task is ended from outside.
struct Books {
    record: RefCell<TcpRecord>,
    totals: Totals,
    /// Metrics have been told.
    opened: std::cell::Cell<bool>,
    stats: Rc<TcpStats>,
    conn: Rc<ConnInfo>,
    proxy: Arc<TcpProxy>,
    worker: Rc<Worker>,
}

impl Books {
    fn context(&self) -> TcpContext<'_> {
        TcpContext {
            conn: &self.conn,
            access_logs: &self.proxy.access_logs,
            telemetry: &self.worker.telemetry,
        }
    }

    fn flag(&self, flag: ResponseFlags) {
        self.record.borrow_mut().flags.set(flag);
    }

    fn open(&self, slot: &PeerSlot) {
        let mut record = self.record.borrow_mut();
        if record.peer.is_none() {
            record.peer = slot.get();
        }
        if !self.opened.replace(true) {
            opened(&mut record, &self.context());
        }
    }

    fn bring_up_to_date(&self, record: &mut TcpRecord) {
        record.bytes_received = self.totals.received.get();
        record.bytes_sent = self.totals.sent.get();
    }

    /// Tells the metrics of the connection and then of its bytes, for as long as it lives.
    async fn report(&self, slot: &PeerSlot, expected: bool) {
        if expected {
            let _ = tokio::time::timeout(PEER_WAIT, slot.settled()).await;
        }
        self.open(slot);
        let filters = &self.conn.chain.filters;
        if !filters.iter().any(|f| matches!(f, NetworkFilter::IstioStats)) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            let mut record = self.record.borrow_mut();
            self.bring_up_to_date(&mut record);
            progress(&mut record);
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        let mut record = self.record.borrow_mut();
        self.bring_up_to_date(&mut record);
        // The counterpart of an open that was not told yet: Istio counts refused connections as opened and closed too.
        if !self.opened.replace(true) {
            opened(&mut record, &self.context());
        }
        closed(&mut record, &self.context());
    }
}

/// Why a connection was not forwarded.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("there is no cluster {0:?} (named by tcp_proxy)")]
    NoCluster(Arc<str>),
    #[error("cluster {0:?} has no endpoint that takes traffic")]
    NoEndpoint(Arc<str>),
    #[error("{0} is this proxy's own port: the connection was not captured and would come back for ever")]
    Loop(SocketAddr),
    #[error("the server name is not looked up, as there are too many already ({0:?})")]
    Lookup(Unresolved),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the upstream broke off at once: {0}")]
    Write(#[from] io::Error),
    #[error(transparent)]
    Tunnel(TunnelError),
}

async fn run<I>(mut io: I, books: &Books) -> Result<(), Failure>
where
    I: ByteStream,
{
    let cluster = choose_cluster(books)?;
    let going = destination(&cluster, books).await?;
    let mut upstream = connect_upstream(&cluster, going, books).await?;
    if let Some(host) = &books.proxy.tunnel {
        open_tunnel(&mut upstream, host, &cluster, books).await?;
    }

    let telemetry = &books.worker.telemetry;
    let exchange_down = exchanges_with_caller(&books.conn);
    let exchange_up = upstream.alpn() == Some(peer::ALPN);
    if let Some(prefix) = peer::tcp_prefix(telemetry) {
        if exchange_down {
            io.write_all(&prefix).await?;
            io.flush().await?;
        }
        if exchange_up {
            upstream.write_all(&prefix).await?;
            upstream.flush().await?;
        }
    }
    // The caller's metadata counts for an inbound connection, the upstream's for an outbound one.
    let (from_caller, from_upstream) = (Rc::new(PeerSlot::default()), Rc::new(PeerSlot::default()));
    let interesting = if exchange_down { &from_caller } else { &from_upstream };
    let down = Exchanged::new(io, exchange_down.then(|| from_caller.clone()));
    let up = Exchanged::new(upstream, exchange_up.then(|| from_upstream.clone()));

    let limit = books.conn.listener.buffer_limit;
    let copying = copy_both(down, up, &books.totals, books.proxy.idle_timeout, limit);
    let end = tokio::select! {
        biased;
        end = copying => end,
        () = books.report(interesting, exchange_down || exchange_up) => End::Done,
    };
    books.open(interesting);
    match end {
        End::Done => {}
        End::Idle => {
            books.stats.idle_timeout.inc();
            books.record.borrow_mut().termination_details = Some("idle timeout".into());
        }
        End::Downstream(error) => {
            tracing::debug!(remote = %books.conn.remote, "the caller's connection broke: {error}");
            books.flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
        }
        End::Upstream(error) => {
            tracing::debug!(cluster = %cluster.name, "the upstream's connection broke: {error}");
            books.flag(ResponseFlags::UPSTREAM_CONNECTION_TERMINATION);
        }
    }
    Ok(())
}

/// Within the time that the connection itself may take.
async fn open_tunnel(upstream: &mut UpstreamIo, host: &str, cluster: &Cluster, books: &Books) -> Result<(), Failure> {
    let late = || TunnelError::Io(io::ErrorKind::TimedOut.into());
    let opened = tokio::time::timeout(cluster.connect_timeout, tunnel::open(upstream, host)).await;
    opened.unwrap_or_else(|_| Err(late())).map_err(|error| {
        books.flag(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        Failure::Tunnel(error)
    })
}

/// The caller is a proxy of the mesh, and the chain is set up to talk to it.
fn exchanges_with_caller(conn: &ConnInfo) -> bool {
    conn.alpn.as_deref() == Some(peer::ALPN)
        && conn
            .chain
            .filters
            .iter()
            .any(|f| matches!(f, NetworkFilter::PeerExchange))
}

fn choose_cluster(books: &Books) -> Result<Arc<Cluster>, Failure> {
    let name = weighted(&books.proxy.clusters);
    books.record.borrow_mut().cluster_name = Some(name.clone());
    let Some(cluster) = books.worker.snapshot().clusters.get(&name).cloned() else {
        books.stats.downstream_cx_no_route.inc();
        books.flag(ResponseFlags::NO_CLUSTER_FOUND);
        return Err(Failure::NoCluster(name));
    };
    books.record.borrow_mut().cluster = Some(cluster.clone());
    if cluster.discovery == Discovery::OriginalDst && books.conn.would_loop() {
        books.flag(ResponseFlags::NO_ROUTE_FOUND);
        return Err(Failure::Loop(books.conn.destination));
    }
    Ok(cluster)
}

/// A cluster by weight; the name is empty when there is none, and then no cluster has it.
fn weighted(clusters: &[(Arc<str>, u32)]) -> Arc<str> {
    match clusters {
        [] => Arc::from(""),
        [(only, _)] => only.clone(),
        several => {
            let total: u64 = several.iter().map(|(_, weight)| u64::from(*weight)).sum();
            let mut point = rand::random_range(0..total.max(1));
            for (name, weight) in several {
                let weight = u64::from(*weight);
                if point < weight {
                    return name.clone();
                }
                point -= weight;
            }
            several[0].0.clone()
        }
    }
}

/// Where the connection goes if the cluster lists no endpoints. As in Envoy, a name that is not found is no failure yet: then
/// there is no endpoint.
async fn destination(cluster: &Cluster, books: &Books) -> Result<Option<SocketAddr>, Failure> {
    let conn = &books.conn;
    let mut port = cluster.default_port();
    let Discovery::Dynamic(cache) = &cluster.discovery else {
        return Ok(Some(conn.destination));
    };
    let asked = conn.sni.as_deref();
    let filter = conn.chain.filters.iter().find_map(|f| match f {
        NetworkFilter::SniForward(cache, port) => Some((cache, *port)),
        _ => None,
    });
    if let (Some((name, to)), Some(host)) = (filter, asked) {
        port = to;
        if name == cache.name()
            && let Err(error @ (Unresolved::HostOverflow | Unresolved::PendingOverflow)) = cache.load(host, port).await
        {
            return Err(Failure::Lookup(error));
        }
    }
    Ok(cluster.destination(conn.destination, asked, port))
}

async fn connect_upstream(
    cluster: &Arc<Cluster>,
    going: Option<SocketAddr>,
    books: &Books,
) -> Result<UpstreamIo, Failure> {
    let attempts = books.proxy.max_connect_attempts.max(1);
    let mut tried: Vec<SocketAddr> = Vec::new();
    loop {
        let context = PickContext {
            avoid: &tried,
            avoid_attempts: attempts,
            hash: books.proxy.hash_source_ip.then(|| hash_of_address(books.conn.remote)),
            tried_priorities: &[],
            destination: going,
        };
        let Some(endpoint) = pick(cluster, &books.worker, context) else {
            books.flag(ResponseFlags::NO_HEALTHY_UPSTREAM);
            return Err(Failure::NoEndpoint(cluster.name.clone()));
        };
        note_endpoint(books, &endpoint);
        let options = ConnectOptions {
            proxied: Some((books.conn.remote, books.conn.destination)),
            ..ConnectOptions::default()
        };
        match connect(&books.worker, cluster, &endpoint, options).await {
            Ok(upstream) => {
                let mut record = books.record.borrow_mut();
                record.upstream_local = upstream.local;
                record.upstream_principal.clone_from(&upstream.peer_uri);
                drop(record);
                observe(cluster, &endpoint, Outcome::Connected);
                return Ok(upstream);
            }
            Err(error) if error.is_overflow() => {
                books.flag(ResponseFlags::UPSTREAM_OVERFLOW);
                return Err(error.into());
            }
            Err(error) => {
                observe(cluster, &endpoint, Outcome::ConnectFailed);
                tried.push(endpoint.address);
                books.record.borrow_mut().upstream_failure = error.transport_failure().map(Arc::from);
                if tried.len() >= attempts as usize {
                    cluster.stats.upstream_cx_connect_attempts_exceeded.inc();
                    books.flag(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
                    if attempts > 1 {
                        books.flag(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                    }
                    return Err(error.into());
                }
            }
        }
    }
}

fn note_endpoint(books: &Books, endpoint: &Arc<Endpoint>) {
    let mut record = books.record.borrow_mut();
    record.upstream_host = Some(endpoint.address);
    record.endpoint = Some(endpoint.clone());
}
