//! The way of one connection: inspection, choice of a chain, TLS, filters.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::server::Accepted;
use tokio::net::TcpStream;

use super::accept::{NewConnection, hand_over, original_destination};
use super::inspect::{Ended, Inspected, inspect};
use super::{ConnInfo, Detected, Facts, Prefixed, Sniffer, choose};
use crate::snapshot::{ChainMatch, FilterChain, Listener, Terminal};
use crate::telemetry::flags::ResponseFlags;
use crate::telemetry::stats::{Gauge, ListenerStats};
use crate::telemetry::tcp::{TcpRecord, log_connection};
use crate::tls::{ServerStream, TlsError};
use crate::worker::Worker;
use crate::{http, tcp, tls};

/// Limit of a handshake where the chain sets none: a caller that stalls does not hold memory for ever.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Serves a connection in a task of its own.
pub(super) fn spawn(connection: NewConnection, worker: &Rc<Worker>) {
    let id = worker.connections.next_id();
    let open = Open {
        id,
        worker: worker.clone(),
    };
    let task = tokio::task::spawn_local(run(connection, open));
    worker.connections.insert(id, task.abort_handle());
}

/// The connection's entry in the worker's list; gone when its task is, however that ends.
struct Open {
    id: u64,
    worker: Rc<Worker>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.connections.remove(self.id);
    }
}

/// A gauge that counts as long as this lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn run(connection: NewConnection, open: Open) {
    let worker = &open.worker;
    let NewConnection {
        mut stream,
        remote,
        owner,
        bound_port,
        load: _load,
    } = connection;
    let Ok(local) = stream.local_addr() else {
        return; // Gone already.
    };
    if worker.shared.capture.takes(remote) {
        return;
    }
    let snapshot = worker.snapshot();
    let Some(listener) = snapshot.listeners.get(&owner).cloned() else {
        return; // Removed while the connection was in the queue.
    };
    let destination = original_destination(&stream, &listener, local);
    let listener = hand_over(worker, &snapshot, listener, destination, bound_port);
    drop(snapshot);

    let stats = worker.telemetry.listener_stats(&listener.stat_prefix);
    let mut facts = Facts::new(destination, remote);
    let inspected = match look(&mut stream, &listener, destination.port()).await {
        Ok(inspected) => inspected,
        Err(Ended::Timeout) => {
            stats.downstream_pre_cx_timeout.inc();
            tracing::debug!(listener = %listener.name, %remote, %destination, "nothing to inspect came in time");
            return;
        }
        Err(Ended::Header(why)) => {
            tracing::info!(listener = %listener.name, %remote, "closing a connection: {why}");
            return;
        }
        Err(Ended::Remote) => return,
    };
    if let Some(ends) = inspected.addresses {
        (facts.source, facts.destination) = (ends.source, ends.destination);
    }
    let Detected { tls, sni, protocols } = inspected.detected;
    (facts.tls, facts.sni, facts.protocols) = (tls, sni, protocols);

    // What is in force now, not when the caller came: it may have been silent for long.
    let snapshot = worker.snapshot();
    let listener = snapshot.listeners.get(&listener.name).cloned().unwrap_or(listener);
    drop(snapshot);
    stats.downstream_cx_total.inc();
    worker.shared.listeners.count().inc();
    let active = Active::new(&stats, worker.shared.listeners.gauge(listener.direction));
    let Some(chain) = choose(&listener, &facts).cloned() else {
        stats.no_filter_chain_match.inc();
        tracing::debug!(
            listener = %listener.name, %remote, %destination, tls = facts.tls, sni = facts.sni.as_deref(),
            protocols = ?facts.protocols, "no filter chain matches"
        );
        log_unmatched(listener, local, facts);
        return;
    };
    let mut conn = ConnInfo::new(listener, chain, local, facts);
    conn.bound_port = bound_port;
    if conn.chain.tls.is_some() {
        let (hello, rest) = match inspected.hello {
            Some((hello, rest)) => (Some(hello), rest),
            None => (None, inspected.bytes),
        };
        // Boxed: what a handshake needs is large, and goes when it is done.
        if let Some((stream, conn)) = Box::pin(terminate(stream, hello, rest, conn, &stats, &open)).await {
            hand_to_filters(stream, conn, &open).await;
        }
    } else {
        drop(inspected.hello);
        hand_to_filters(Prefixed::new(inspected.bytes, stream), conn, &open).await;
    }
    drop(active);
}

/// Writes the listener's access logs for a connection without a filter chain.
fn log_unmatched(listener: Arc<Listener>, local: SocketAddr, facts: Facts) {
    if listener.access_logs.is_empty() {
        return;
    }
    let nothing = Arc::new(FilterChain {
        name: Arc::from(""),
        matches: ChainMatch::default(),
        tls: None,
        handshake_timeout: None,
        filters: Vec::new(),
        terminal: Terminal::Close,
    });
    let mut record = TcpRecord::new();
    record.flags.set(ResponseFlags::NO_ROUTE_FOUND);
    log_connection(&record, &ConnInfo::new(listener, nothing, local, facts));
}

/// Counts a connection in all the places where connections are counted.
struct Active {
    stats: Rc<ListenerStats>,
    _active: Counted,
    _direction: Counted,
}

impl Active {
    fn new(stats: &Rc<ListenerStats>, direction: &Gauge) -> Self {
        Active {
            stats: stats.clone(),
            _active: Counted::new(&stats.downstream_cx_active),
            _direction: Counted::new(direction),
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.stats.downstream_cx_destroy.inc();
    }
}

async fn look(stream: &mut TcpStream, listener: &Listener, port: u16) -> Result<Inspected, Ended> {
    let inspectors = &listener.inspectors;
    let tls = inspectors.tls.as_ref().is_some_and(|p| p.runs_for(port));
    let http = inspectors.http.as_ref().is_some_and(|p| p.runs_for(port));
    let mut sniffer = Sniffer::new(tls, http);
    if inspectors.proxy_protocol {
        sniffer = sniffer.behind_load_balancer();
    } else if !tls && !http {
        return sniffer.finish();
    }
    inspect(stream, sniffer, inspectors.timeout, inspectors.continue_on_timeout).await
}

/// Ends TLS of a connection. When that fails, it is counted and logged here.
async fn terminate(
    stream: TcpStream,
    hello: Option<Box<Accepted>>,
    rest: Bytes,
    mut conn: ConnInfo,
    stats: &ListenerStats,
    open: &Open,
) -> Option<(Box<ServerStream<Prefixed<tcp::ReadAhead<TcpStream>>>>, ConnInfo)> {
    let chain: Arc<FilterChain> = conn.chain.clone();
    let context = chain.tls.as_ref()?;
    let limit = chain.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT);
    let handshake = tls::accept(Prefixed::new(rest, tcp::ReadAhead::new(stream)), hello, context);
    let failed = match tokio::time::timeout(limit, handshake).await {
        Ok(Ok((stream, info))) => {
            stats.ssl_handshake.inc();
            let session = stream.get_ref().1;
            conn.alpn = session.alpn_protocol().map(<[u8]>::to_vec);
            if conn.sni.is_none() {
                conn.sni = session.server_name().map(|name| Arc::from(name.to_ascii_lowercase()));
            }
            conn.tls = Some(info);
            return Some((Box::new(stream), conn));
        }
        Ok(Err(error)) => {
            match &error {
                TlsError::Refused(_) => stats.ssl_fail_verify_error.inc(),
                TlsError::NoCertificate => stats.ssl_fail_verify_no_cert.inc(),
                _ => {}
            }
            error
        }
        Err(_) => TlsError::Handshake(format!("not done within {limit:?}")),
    };
    stats.ssl_connection_error.inc();
    // An operator has to see who is refused and why; a flood of strangers must not fill the disk.
    let seldom = !matches!(failed, TlsError::Gone(_)) && open.worker.connections.may_log();
    let (remote, destination) = (conn.remote, conn.destination);
    if seldom {
        tracing::info!(listener = %conn.listener.name, chain = %chain.name, %remote, %destination, "{failed}");
    } else {
        tracing::debug!(listener = %conn.listener.name, chain = %chain.name, %remote, %destination, "{failed}");
    }
    None
}

async fn hand_to_filters<I>(io: I, conn: ConnInfo, open: &Open)
where
    I: tcp::ByteStream + Send + 'static,
{
    let worker = open.worker.clone();
    let conn = Rc::new(conn);
    worker.connections.established(open.id, &conn);
    // The snapshot may have changed during the handshake.
    if let Err(refusal) = conn.reevaluate(&worker.snapshot()) {
        tracing::info!(listener = %conn.listener.name, remote = %conn.remote, "closing a connection: {refusal}");
        return;
    }
    // Boxed: the task is as large as its largest future, and most connections live in only one of them.
    match conn.chain.terminal.clone() {
        Terminal::Http(manager) => Box::pin(http::serve_connection(io, conn, manager, worker)).await,
        Terminal::Tcp(proxy) => Box::pin(tcp::serve_connection(io, conn, proxy, worker)).await,
        Terminal::Close => {}
    }
}
