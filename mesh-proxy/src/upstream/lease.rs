//! Getting a connection for one request, and giving it back.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::line::Place;
use super::pool::{Busy, Counted, Idle, Meta, Shared, Slot};
use super::proxy_header::Proxied;
use super::{AlpnOffer, ConnectError, ConnectOptions, Protocol, UpstreamIo, Want, connect};
use crate::http::{Gather, RequestBody};
use crate::snapshot::{Cluster, Endpoint};
use crate::worker::Worker;

/// A connection for one request. Dropping it before [`Lease::release`] closes an HTTP/1 connection.
pub(crate) struct Lease {
    slot: Rc<Slot>,
    conn: Leased,
    meta: Rc<Meta>,
    /// The connection has served a request before.
    pub(crate) reused: bool,
}

enum Leased {
    Http1(Option<Http1>),
    Http2(Rc<Shared>),
}

struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    busy: Busy,
}

/// Why there is no connection.
#[derive(Debug, Clone)]
pub(crate) enum LeaseError {
    /// It could not be opened.
    Connect(Rc<ConnectError>),
    /// `max_pending_requests` is reached.
    PendingOverflow,
}

/// A connection from the pool, or a new one.
pub(crate) async fn lease(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    want: Want<'_>,
) -> Result<Lease, LeaseError> {
    let slot = worker.pools.slot(worker, cluster, endpoint, want);
    if let Some(lease) = slot.take(want.protocol) {
        return Ok(lease);
    }
    // From here on it is rare; boxed, so that requests that find a connection do not carry this.
    Box::pin(open(worker, cluster, endpoint, want, slot)).await
}

async fn open(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    want: Want<'_>,
    slot: Rc<Slot>,
) -> Result<Lease, LeaseError> {
    slot.refresh(cluster);
    let _pending =
        Counted::below(&cluster.state, cluster.limits.max_pending_requests, |s| &s.pending).ok_or_else(|| {
            cluster.stats.upstream_rq_pending_overflow.inc();
            LeaseError::PendingOverflow
        })?;
    cluster.stats.upstream_rq_pending_total.inc();
    match want.protocol {
        Protocol::Http1 => open_http1(worker, cluster, endpoint, want, &slot).await,
        Protocol::Http2 | Protocol::Auto => {
            if slot.negotiated.get() == Some(Protocol::Http1) {
                open_http1(worker, cluster, endpoint, want, &slot).await
            } else {
                open_shared(worker, cluster, endpoint, want, &slot).await
            }
        }
    }
}

/// Opens a connection, or waits in line for one where the cluster may have no more.
async fn open_http1(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    want: Want<'_>,
    slot: &Rc<Slot>,
) -> Result<Lease, LeaseError> {
    if slot.line.is_empty() {
        let opened = open_one(worker, cluster, endpoint, want, slot, false).await;
        if !is_overflow(&opened) {
            return opened;
        }
    } else {
        cluster.stats.upstream_cx_overflow.inc();
    }
    let place = Place::last(slot);
    let _waiting = Counted::one(&cluster.state, |s| &s.waiting);
    loop {
        // From here on no end of a connection is missed.
        let mut room = pin!(cluster.state.room.notified());
        room.as_mut().enable();
        if let Some(lease) = place.given() {
            return Ok(lease);
        }
        if place.is_first() {
            let opened = open_one(worker, cluster, endpoint, want, slot, true).await;
            if !is_overflow(&opened) {
                return opened;
            }
            if let Some(lease) = place.given() {
                return Ok(lease);
            }
        }
        tokio::select! {
            () = place.woken() => {}
            () = room => slot.line.wake_first(),
        }
    }
}

fn is_overflow(opened: &Result<Lease, LeaseError>) -> bool {
    matches!(opened, Err(LeaseError::Connect(error)) if error.is_overflow())
}

async fn open_one(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    want: Want<'_>,
    slot: &Rc<Slot>,
    again: bool,
) -> Result<Lease, LeaseError> {
    let options = ConnectOptions {
        server_name: want.server_name,
        alpn: want.alpn,
        proxied: want.proxied,
        // As in Envoy, every pool may have one connection.
        force: slot.active.get() == 0 && slot.opening.get() == 0,
        again,
    };
    let _opening = OpeningHttp1::new(slot);
    match connect(worker, cluster, endpoint, options).await {
        Ok(io) => handshake_http1(cluster, slot, io).await,
        Err(error) => Err(LeaseError::Connect(Rc::new(error))),
    }
}

/// Counts an HTTP/1 connection that is being opened, until it is open or given up.
struct OpeningHttp1<'s>(&'s Slot);

impl<'s> OpeningHttp1<'s> {
    fn new(slot: &'s Slot) -> Self {
        slot.opening.set(slot.opening.get() + 1);
        OpeningHttp1(slot)
    }
}

impl Drop for OpeningHttp1<'_> {
    fn drop(&mut self) {
        self.0.opening.set(self.0.opening.get().saturating_sub(1));
        // Without a connection left here, the first in line may open one whatever the limit.
        if self.0.opening.get() == 0 && self.0.active.get() == 0 {
            self.0.line.wake_first();
        }
    }
}

async fn handshake_http1(cluster: &Cluster, slot: &Rc<Slot>, io: UpstreamIo) -> Result<Lease, LeaseError> {
    let meta = Rc::new(meta(cluster, &io));
    let (sender, conn) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|e| handshake_failed(slot, e))?;
    tokio::task::spawn_local(async move {
        if let Err(error) = conn.with_upgrades().await {
            tracing::debug!("upstream connection: {error}");
        }
    });
    cluster.stats.upstream_cx_http1_total.inc();
    Ok(Lease::http1(slot, sender, meta, false))
}

fn handshake_failed(slot: &Slot, error: hyper::Error) -> LeaseError {
    LeaseError::Connect(Rc::new(ConnectError::Tcp {
        address: slot.address(),
        error: std::io::Error::other(error),
    }))
}

fn meta(cluster: &Cluster, io: &UpstreamIo) -> Meta {
    Meta {
        local: io.local,
        peer_uri: io.peer_uri.clone(),
        opened: Instant::now(),
        requests: Cell::new(0),
        max_requests: cluster.http.max_requests_per_connection,
    }
}

/// Waits for a shared connection, and has one opened if nobody else has. Opening goes on when this caller gives up: the next
/// one finds it.
async fn open_shared(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    want: Want<'_>,
    slot: &Rc<Slot>,
) -> Result<Lease, LeaseError> {
    let failures = slot.failure.borrow().0;
    let mut counted = false;
    loop {
        let waiting = slot.waiters.notified();
        if let Some(lease) = slot.take(want.protocol) {
            return Ok(lease);
        }
        if want.protocol == Protocol::Auto && slot.negotiated.get() == Some(Protocol::Http1) {
            // The connection that told so went to another request.
            return open_http1(worker, cluster, endpoint, want, slot).await;
        }
        if let (now, Some(error)) = &*slot.failure.borrow()
            && *now != failures
        {
            return Err(LeaseError::Connect(error.clone()));
        }
        // Others have found that there may be no more connections.
        if slot.full.get() && !counted {
            counted = true;
            cluster.stats.upstream_cx_overflow.inc();
        }
        if !slot.connecting.replace(true) {
            let opening = Opening {
                worker: worker.clone(),
                cluster: cluster.clone(),
                endpoint: endpoint.clone(),
                alpn: want.alpn,
                server_name: want.server_name.map(Into::into),
                proxied: want.proxied,
                protocol: want.protocol,
                slot: slot.clone(),
            };
            tokio::task::spawn_local(opening.run());
        }
        waiting.await;
    }
}

/// Opens a shared connection for all who wait for it.
struct Opening {
    worker: Rc<Worker>,
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    alpn: AlpnOffer,
    server_name: Option<Box<str>>,
    proxied: Option<Proxied>,
    protocol: Protocol,
    slot: Rc<Slot>,
}

impl Opening {
    async fn run(self) {
        let slot = &self.slot;
        let _waiting = Counted::one(&self.cluster.state, |s| &s.waiting);
        let mut room = pin!(self.cluster.state.room.notified());
        room.as_mut().enable();
        match self.open().await {
            // At the limit of connections, with some at hand: streams wait for their turn on those, or for the end of one
            // anywhere else.
            Err(LeaseError::Connect(error)) if error.is_overflow() && !slot.shared.borrow().is_empty() => {
                slot.full.set(true);
                // Those who wait count that they do.
                slot.waiters.notify_waiters();
                let freed = slot.waiters.notified();
                tokio::select! {
                    () = room => {}
                    () = freed => {}
                }
            }
            Err(LeaseError::Connect(error)) => {
                let mut failure = slot.failure.borrow_mut();
                failure.0 += 1;
                failure.1 = Some(error);
            }
            Ok(()) | Err(LeaseError::PendingOverflow) => slot.full.set(false),
        }
        slot.connecting.set(false);
        slot.waiters.notify_waiters();
    }

    async fn open(&self) -> Result<(), LeaseError> {
        let options = ConnectOptions {
            server_name: self.server_name.as_deref(),
            alpn: self.alpn,
            proxied: self.proxied,
            force: self.slot.shared.borrow().is_empty(),
            // Whoever waits counts for itself.
            again: !self.slot.shared.borrow().is_empty(),
        };
        let io = match connect(&self.worker, &self.cluster, &self.endpoint, options).await {
            Ok(io) => io,
            Err(error) => return Err(LeaseError::Connect(Rc::new(error))),
        };
        if self.protocol == Protocol::Auto && !io.alpn().is_some_and(|p| p == b"h2" || p == b"istio-h2") {
            self.slot.negotiated.set(Some(Protocol::Http1));
            let lease = handshake_http1(&self.cluster, &self.slot, io).await?;
            // Its task gets to run, so that the connection is ready for whoever waits.
            tokio::task::yield_now().await;
            lease.release();
            return Ok(());
        }
        self.slot.negotiated.set(Some(Protocol::Http2));
        self.handshake_http2(io).await
    }

    async fn handshake_http2(&self, io: UpstreamIo) -> Result<(), LeaseError> {
        let meta = Rc::new(meta(&self.cluster, &io));
        let options = &self.cluster.http.http2;
        let io = Gather::new(io);
        let mut builder = http2::Builder::new(io.exec());
        if let Some((interval, timeout)) = options.keep_alive {
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(interval)
                .keep_alive_timeout(timeout)
                .keep_alive_while_idle(true);
        }
        let (sender, conn) = builder
            .initial_stream_window_size(options.initial_stream_window)
            .initial_connection_window_size(options.initial_connection_window)
            .max_header_list_size(60 * 1024)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|e| handshake_failed(&self.slot, e))?;
        let allowed = conn
            .current_max_send_streams()
            .min(options.max_concurrent_streams as usize);
        let shared = Rc::new(Shared {
            sender,
            meta,
            active: Cell::new(0),
            allowed: Cell::new(allowed),
            used: Cell::new(Instant::now()),
        });
        let watched = Rc::downgrade(&shared);
        let slot = Rc::downgrade(&self.slot);
        let limit = options.max_concurrent_streams as usize;
        tokio::task::spawn_local(async move {
            let mut conn = std::pin::pin!(conn);
            let mut polls = 0_u32;
            let ended = std::future::poll_fn(|cx| {
                let polled = conn.as_mut().poll(cx);
                // The peer's SETTINGS come early, and change rarely; asking takes a lock in h2.
                if (polls < 16 || polls.is_multiple_of(256))
                    && let Some(shared) = watched.upgrade()
                {
                    shared.allowed.set(conn.current_max_send_streams().min(limit));
                }
                polls = polls.wrapping_add(1);
                polled
            })
            .await;
            if let Err(error) = ended {
                tracing::debug!("upstream HTTP/2 connection: {error}");
            }
            if let (Some(slot), Some(shared)) = (slot.upgrade(), watched.upgrade()) {
                slot.shared.borrow_mut().retain(|s| !Rc::ptr_eq(s, &shared));
                slot.waiters.notify_waiters();
            }
        });
        self.cluster.stats.upstream_cx_http2_total.inc();
        self.slot.shared.borrow_mut().push(shared);
        Ok(())
    }
}

impl Slot {
    fn address(&self) -> std::net::SocketAddr {
        self.key.address()
    }

    /// A connection that is there.
    fn take(self: &Rc<Self>, protocol: Protocol) -> Option<Lease> {
        let protocol = match protocol {
            Protocol::Auto => self.negotiated.get()?,
            known => known,
        };
        match protocol {
            Protocol::Http1 => self.take_idle(),
            Protocol::Http2 | Protocol::Auto => self.take_shared(),
        }
    }

    fn take_idle(self: &Rc<Self>) -> Option<Lease> {
        // The latest used first: it is the least likely to have been closed by the peer, and those at the bottom can age.
        while let Some(conn) = self.idle.borrow_mut().pop() {
            if !conn.sender.is_ready() {
                continue;
            }
            return Some(Lease::http1(self, conn.sender, conn.meta, true));
        }
        None
    }

    fn take_shared(self: &Rc<Self>) -> Option<Lease> {
        let all = self.shared.borrow();
        let usable = |c: &&Rc<Shared>| !c.sender.is_closed() && !c.meta.spent();
        let roomy = |c: &&Rc<Shared>| (c.active.get() as usize) < c.allowed.get();
        let conn = all.iter().filter(usable).find(roomy)?;
        conn.active.set(conn.active.get() + 1);
        let reused = conn.meta.requests.get() > 0;
        Some(Lease {
            slot: self.clone(),
            meta: conn.meta.clone(),
            conn: Leased::Http2(conn.clone()),
            reused,
        })
    }
}

impl Lease {
    fn http1(slot: &Rc<Slot>, sender: http1::SendRequest<RequestBody>, meta: Rc<Meta>, reused: bool) -> Self {
        let busy = Busy::new(slot);
        Lease {
            slot: slot.clone(),
            conn: Leased::Http1(Some(Http1 { sender, busy })),
            meta,
            reused,
        }
    }

    /// Our address on the connection.
    pub(crate) fn local(&self) -> Option<std::net::SocketAddr> {
        self.meta.local
    }

    /// SPIFFE URI of the upstream's certificate.
    pub(crate) fn peer_uri(&self) -> Option<Arc<str>> {
        self.meta.peer_uri.clone()
    }

    /// Whether it speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.conn, Leased::Http2(_))
    }

    /// Sends one request and waits for the head of the response.
    ///
    /// # Errors
    /// With the request inside when no byte of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.meta.requests.set(self.meta.requests.get().saturating_add(1));
        match &mut self.conn {
            Leased::Http1(Some(conn)) => conn.sender.try_send_request(request).await,
            Leased::Http2(shared) => {
                let mut sender = shared.sender.clone();
                sender.try_send_request(request).await
            }
            // Only `release` takes it, and that consumes the lease.
            Leased::Http1(None) => std::future::pending().await,
        }
    }

    /// The response is through: the connection may serve others.
    pub(crate) fn release(mut self) {
        let Leased::Http1(conn) = &mut self.conn else {
            return;
        };
        let Some(Http1 { mut sender, busy }) = conn.take() else {
            return;
        };
        if sender.is_closed() || self.meta.spent() || self.slot.retired.get() {
            return;
        }
        if sender.is_ready() {
            self.slot.put(sender, self.meta.clone());
            return;
        }
        // The connection's task has not come round yet, or the request's body is still on its way.
        let (slot, meta) = (self.slot.clone(), self.meta.clone());
        tokio::task::spawn_local(async move {
            let _busy = busy;
            if sender.ready().await.is_ok() {
                slot.put(sender, meta);
            }
        });
    }
}

impl Slot {
    fn put(self: &Rc<Self>, sender: http1::SendRequest<RequestBody>, meta: Rc<Meta>) {
        let now = Instant::now();
        if self.retired.get() || self.too_old(&meta, now) {
            return;
        }
        if !self.line.is_empty() {
            self.line.hand(Lease::http1(self, sender, meta, true));
            return;
        }
        self.idle.borrow_mut().push(Idle {
            sender,
            meta,
            since: now,
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Leased::Http2(shared) = &self.conn {
            let before = shared.active.get();
            shared.active.set(before.saturating_sub(1));
            shared.used.set(Instant::now());
            if before as usize >= shared.allowed.get() {
                self.slot.waiters.notify_waiters();
            }
        }
    }
}
