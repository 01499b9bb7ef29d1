//! Connection pools of one worker: who holds which connections. Leasing is in [`super::lease`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use tokio::sync::Notify;

use super::line::Line;
use super::proxy_header::Proxied;
use super::{AlpnOffer, ConnectError};
use crate::http::RequestBody;
use crate::snapshot::{Cluster, ClusterState, Endpoint, EndpointState, Map, Snapshot, Transport, TransportSockets};
use crate::worker::Worker;

/// Between two looks at idle connections.
const SWEEP: Duration = Duration::from_secs(1);

/// Version of HTTP to speak to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// By ALPN.
    Auto,
}

/// Connections with equal keys can stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Address of the cluster's state, which outlives its configuration; the slot holds the state, so that no other cluster
    /// can come to this address.
    cluster: usize,
    address: SocketAddr,
    tls: Option<u64>,
    protocol: Protocol,
    alpn: AlpnOffer,
    server_name: Option<Box<str>>,
    proxied: Option<Proxied>,
}

impl Key {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What a request needs of its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) alpn: AlpnOffer,
    /// `auto_sni`.
    pub(crate) server_name: Option<&'a str>,
    /// Whom a PROXY header names, where the transport has one.
    pub(crate) proxied: Option<Proxied>,
}

/// Pools of one worker.
#[derive(Default)]
pub struct Pools {
    slots: RefCell<Map<Key, Rc<Slot>>>,
    /// Endpoints of original destinations; the transports are held for the sake of the key.
    ephemeral: RefCell<Map<(usize, SocketAddr), Ephemeral>>,
    swept: Cell<bool>,
    version: Cell<u64>,
}

type Ephemeral = (Arc<TransportSockets>, Arc<Endpoint>);

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

/// Connections to one endpoint.
pub(crate) struct Slot {
    pub(super) key: Key,
    cluster: Arc<str>,
    pub(super) state: Arc<ClusterState>,
    /// HTTP/1 connections without a request, the latest used last.
    pub(super) idle: RefCell<Vec<Idle>>,
    /// HTTP/1 connections in use, or on their way back.
    pub(super) active: Cell<u32>,
    pub(super) shared: RefCell<Vec<Rc<Shared>>>,
    /// Requests that wait until there is a shared connection (or one stream less on it).
    pub(super) waiters: Notify,
    /// HTTP/1 connections that are being opened.
    pub(super) opening: Cell<u32>,
    /// Requests that wait for an HTTP/1 connection because of `max_connections`.
    pub(super) line: Line,
    /// The last attempt to open a shared connection was stopped by `max_connections`.
    pub(super) full: Cell<bool>,
    /// A shared connection is being opened; those who need one wait for it.
    pub(super) connecting: Cell<bool>,
    /// How the last attempts to open a shared connection failed, and how many did.
    pub(super) failure: RefCell<(u64, Option<Rc<ConnectError>>)>,
    /// What ALPN gave last time, for [`Protocol::Auto`].
    pub(super) negotiated: Cell<Option<Protocol>>,
    /// The configuration has no use for these connections any more.
    pub(super) retired: Cell<bool>,
    /// What the connections are opened under; see [`Terms`].
    terms: Cell<Terms>,
    /// How often the terms have changed.
    pub(super) generation: Cell<u32>,
    idle_timeout: Cell<Option<Duration>>,
    max_age: Cell<Option<Duration>>,
    used: Cell<Instant>,
}

/// An HTTP/1 connection without a request.
pub(super) struct Idle {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) meta: Rc<Meta>,
    pub(super) since: Instant,
}

/// An HTTP/2 connection.
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) meta: Rc<Meta>,
    /// Streams open.
    pub(super) active: Cell<u32>,
    /// Streams that the peer allows.
    pub(super) allowed: Cell<usize>,
    pub(super) used: Cell<Instant>,
}

/// An HTTP/1 connection in use, or on its way back.
pub(super) struct Busy(Rc<Slot>);

impl Busy {
    pub(super) fn new(slot: &Rc<Slot>) -> Self {
        slot.active.set(slot.active.get() + 1);
        Busy(slot.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.line.wake_first();
    }
}

/// Settings of a cluster that decide how many connections there are and how long each serves. Where they change, the slot's
/// connections finish what they have begun and make room for others, as in Envoy, which makes the pools of a changed cluster
/// anew: more idle ones than are allowed now would keep new ones from being counted, and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    max_connections: u32,
    max_requests_per_connection: u32,
}

impl Terms {
    fn of(cluster: &Cluster) -> Self {
        Terms {
            max_connections: cluster.limits.max_connections,
            max_requests_per_connection: cluster.http.max_requests_per_connection,
        }
    }
}

/// What stays the same while a connection lives.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) local: Option<SocketAddr>,
    /// SPIFFE URI of the upstream's certificate.
    pub(crate) peer_uri: Option<Arc<str>>,
    pub(super) opened: Instant,
    /// Requests sent.
    pub(super) requests: Cell<u32>,
    /// `max_requests_per_connection`, 0 for no limit.
    pub(super) max_requests: u32,
    /// The slot's when the connection was opened.
    pub(super) generation: u32,
}

impl Meta {
    /// The connection has served as many requests as it may.
    pub(super) fn spent(&self) -> bool {
        self.max_requests != 0 && self.requests.get() >= self.max_requests
    }
}

impl Pools {
    /// The endpoint that stands for an original destination; the same one as long as it is in use.
    pub(super) fn original_dst_endpoint(&self, cluster: &Cluster, address: SocketAddr) -> Arc<Endpoint> {
        let key = (Arc::as_ptr(&cluster.transports) as usize, address);
        let mut all = self.ephemeral.borrow_mut();
        let (_, endpoint) = all.entry(key).or_insert_with(|| {
            let endpoint = Endpoint {
                address,
                hostname: None,
                weight: 1,
                priority: 0,
                locality: Arc::default(),
                locality_weight: 0,
                healthy: true,
                transport: cluster.transports.default.clone(),
                workload: None,
                state: Arc::new(EndpointState::default()),
            };
            (cluster.transports.clone(), Arc::new(endpoint))
        });
        endpoint.clone()
    }

    /// Where connections of this kind are kept.
    pub(super) fn slot(&self, worker: &Rc<Worker>, cluster: &Cluster, endpoint: &Endpoint, want: Want<'_>) -> Rc<Slot> {
        let tls = endpoint.transport.tls();
        let key = Key {
            cluster: Arc::as_ptr(&cluster.state) as usize,
            address: endpoint.address,
            tls: tls.map(|t| t.fingerprint),
            protocol: want.protocol,
            // Plaintext connections do not differ by what TLS would have offered.
            alpn: if tls.is_some() {
                want.alpn
            } else {
                AlpnOffer::Configured
            },
            server_name: match (tls, want.server_name) {
                (Some(tls), Some(name)) if tls.sni.is_empty() => Some(name.into()),
                _ => None,
            },
            // A connection that names its caller serves nobody else.
            proxied: want.proxied.filter(|_| endpoint.transport.proxy_header().is_some()),
        };
        if let Some(slot) = self.slots.borrow().get(&key) {
            return slot.clone();
        }
        self.start_sweeping(worker);
        let slot = Rc::new(Slot {
            cluster: cluster.name.clone(),
            state: cluster.state.clone(),
            idle: RefCell::default(),
            active: Cell::default(),
            shared: RefCell::default(),
            waiters: Notify::new(),
            opening: Cell::default(),
            line: Line::default(),
            full: Cell::default(),
            connecting: Cell::default(),
            failure: RefCell::default(),
            negotiated: Cell::default(),
            retired: Cell::default(),
            terms: Cell::new(Terms::of(cluster)),
            generation: Cell::default(),
            idle_timeout: Cell::new(cluster.http.idle_timeout),
            max_age: Cell::new(cluster.http.max_connection_duration),
            used: Cell::new(Instant::now()),
            key: key.clone(),
        });
        self.slots.borrow_mut().insert(key, slot.clone());
        slot
    }

    fn start_sweeping(&self, worker: &Rc<Worker>) {
        if self.swept.replace(true) {
            return;
        }
        let worker = Rc::downgrade(worker);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(worker) = worker.upgrade() else { return };
                worker.pools.sweep(&worker.snapshot(), Instant::now());
            }
        });
    }

    /// Lets go of connections that were idle too long, that are dead, or that the configuration has no use for.
    pub(super) fn sweep(&self, snapshot: &Snapshot, now: Instant) {
        let changed = self.version.replace(snapshot.version) != snapshot.version;
        // Dropped after the borrow ends, as dropping a connection may wake whoever waits for it.
        let mut dropped: VecDeque<Rc<Slot>> = VecDeque::new();
        self.slots.borrow_mut().retain(|_, slot| {
            if changed {
                slot.follow(snapshot);
            }
            let keep = slot.sweep(now);
            if !keep {
                dropped.push_back(slot.clone());
            }
            keep
        });
        self.ephemeral
            .borrow_mut()
            .retain(|_, (_, endpoint)| Arc::strong_count(endpoint) > 1);
    }

    /// HTTP/1 connections without a request and HTTP/2 connections, for tests and `/memory`-like views.
    pub fn counts(&self) -> (usize, usize) {
        let slots = self.slots.borrow();
        (
            slots.values().map(|s| s.idle.borrow().len()).sum(),
            slots.values().map(|s| s.shared.borrow().len()).sum(),
        )
    }
}

impl Slot {
    /// Takes over the limits of the cluster's present version.
    pub(super) fn refresh(&self, cluster: &Cluster) {
        self.idle_timeout.set(cluster.http.idle_timeout);
        self.max_age.set(cluster.http.max_connection_duration);
    }

    /// Retires the slot, or its connections, where the configuration asks for it.
    fn follow(&self, snapshot: &Snapshot) {
        let cluster = snapshot.clusters.get(&self.cluster);
        let Some(cluster) = cluster.filter(|c| self.wanted(c)) else {
            self.retired.set(true);
            return;
        };
        let terms = Terms::of(cluster);
        if self.terms.replace(terms) != terms {
            self.generation.set(self.generation.get().wrapping_add(1));
        }
    }

    fn wanted(&self, cluster: &Cluster) -> bool {
        if !Arc::ptr_eq(&cluster.state, &self.state) {
            return false;
        }
        let suits = |transport: &Transport| {
            self.key.tls == transport.tls().map(|t| t.fingerprint)
                && self.key.proxied.is_some() == transport.proxy_header().is_some()
        };
        if !cluster.discovery.lists_endpoints() {
            return suits(&cluster.transports.default);
        }
        cluster
            .endpoints
            .iter()
            .any(|e| e.address == self.key.address && suits(&e.transport))
    }

    /// The connection takes no further requests, for what the configuration says now.
    pub(super) fn outdated(&self, meta: &Meta) -> bool {
        self.retired.get() || meta.generation != self.generation.get()
    }

    pub(super) fn too_old(&self, meta: &Meta, now: Instant) -> bool {
        self.max_age
            .get()
            .is_some_and(|age| now.saturating_duration_since(meta.opened) >= age)
    }

    pub(super) fn idle_too_long(&self, since: Instant, now: Instant) -> bool {
        self.idle_timeout
            .get()
            .is_some_and(|limit| now.saturating_duration_since(since) >= limit)
    }

    /// False when nothing is left to keep.
    fn sweep(&self, now: Instant) -> bool {
        let retired = self.retired.get();
        self.idle.borrow_mut().retain(|conn| {
            !self.outdated(&conn.meta)
                && !conn.sender.is_closed()
                && !self.idle_too_long(conn.since, now)
                && !self.too_old(&conn.meta, now)
        });
        self.shared.borrow_mut().retain(|conn| {
            // Such a connection takes no new streams and goes when the last of its leases does.
            !self.outdated(&conn.meta)
                && !conn.sender.is_closed()
                && !self.too_old(&conn.meta, now)
                && (conn.active.get() > 0 || !self.idle_too_long(conn.used.get(), now))
        });
        let empty = self.idle.borrow().is_empty() && self.shared.borrow().is_empty();
        let busy = self.active.get() > 0 || self.opening.get() > 0 || self.connecting.get();
        if !empty || busy {
            self.used.set(now);
        }
        // Kept for a while, so that requests in between find it and its memory of ALPN.
        !(empty && !busy && (retired || now.saturating_duration_since(self.used.get()) > 60 * SWEEP))
    }
}

/// Counts one on a shared number, unless that would pass a limit.
#[derive(Debug)]
pub(crate) struct Counted<F: Fn(&ClusterState) -> &AtomicU32> {
    state: Arc<ClusterState>,
    which: F,
}

impl<F: Fn(&ClusterState) -> &AtomicU32> Counted<F> {
    /// Counts one, without a limit.
    pub(crate) fn one(state: &Arc<ClusterState>, which: F) -> Self {
        // Seen by whoever ends a connection after this: see `ConnectionGuard`.
        which(state).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Counted {
            state: state.clone(),
            which,
        }
    }

    pub(crate) fn below(state: &Arc<ClusterState>, limit: u32, which: F) -> Option<Self> {
        use std::sync::atomic::Ordering::Relaxed;
        let before = which(state).fetch_add(1, Relaxed);
        let counted = Counted {
            state: state.clone(),
            which,
        };
        (before < limit).then_some(counted)
    }
}

impl<F: Fn(&ClusterState) -> &AtomicU32> Drop for Counted<F> {
    fn drop(&mut self) {
        (self.which)(&self.state).fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}
