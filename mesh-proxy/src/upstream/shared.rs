//! Connections that many requests share: opening them (HTTP/2, or what ALPN says).

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::lease::{Lease, LeaseError, handshake_failed, handshake_http1, meta, open_http1};
use super::pool::{Counted, Shared, Slot};
use super::proxy_header::Proxied;
use super::{AlpnOffer, ConnectOptions, Protocol, UpstreamIo, Want, connect};
use crate::http::Gather;
use crate::snapshot::{Cluster, Endpoint};
use crate::worker::Worker;

/// Waits for a shared connection, and has one opened if nobody else has. Opening goes on when this caller gives up: the next
/// one finds it.
pub(super) async fn open_shared(
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
        let meta = Rc::new(meta(&self.cluster, &self.slot, &io));
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
