//! Getting a connection for one request, and giving it back.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;

use super::line::Place;
use super::pool::{Busy, Counted, Idle, Meta, Shared, Slot};
use super::shared::open_shared;
use super::{ConnectError, ConnectOptions, Protocol, UpstreamIo, Want, connect};
use crate::http::RequestBody;
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
pub(super) async fn open_http1(
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

pub(super) async fn handshake_http1(cluster: &Cluster, slot: &Rc<Slot>, io: UpstreamIo) -> Result<Lease, LeaseError> {
    let meta = Rc::new(meta(cluster, slot, &io));
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

pub(super) fn handshake_failed(slot: &Slot, error: hyper::Error) -> LeaseError {
    LeaseError::Connect(Rc::new(ConnectError::Tcp {
        address: slot.address(),
        error: std::io::Error::other(error),
    }))
}

pub(super) fn meta(cluster: &Cluster, slot: &Slot, io: &UpstreamIo) -> Meta {
    Meta {
        local: io.local,
        peer_uri: io.peer_uri.clone(),
        opened: Instant::now(),
        requests: Cell::new(0),
        max_requests: cluster.http.max_requests_per_connection,
        generation: slot.generation.get(),
    }
}

impl Slot {
    fn address(&self) -> std::net::SocketAddr {
        self.key.address()
    }

    /// A connection that is there.
    pub(super) fn take(self: &Rc<Self>, protocol: Protocol) -> Option<Lease> {
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
        if sender.is_closed() || self.meta.spent() || self.slot.outdated(&self.meta) {
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
        if self.outdated(&meta) || self.too_old(&meta, now) {
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
