//! Connections from callers: which configuration serves them now, when they are told to go.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::Notify;

use super::watched::Watch;
use super::xfcc;
use crate::listener::{ConnInfo, current_chain};
use crate::shared::Drain;
use crate::snapshot::{Direction, HttpConnectionManager, Snapshot, Terminal};
use crate::telemetry::stats::HttpStats;
use crate::worker::Worker;

/// Between two looks at idle connections.
const TEND: Duration = Duration::from_millis(500);

/// A connection without streams that was told to end, and has not after this long, is dropped: its caller sends half a head,
/// or reads nothing.
const LINGER: Duration = Duration::from_secs(30);

/// One connection from a caller.
pub(crate) struct Downstream {
    pub(crate) info: Rc<ConnInfo>,
    pub(crate) worker: Rc<Worker>,
    current: RefCell<Current>,
    /// Streams open.
    active: Cell<u32>,
    /// When the last stream ended.
    idle_since: Cell<Instant>,
    opened: Instant,
    /// The codec turned out to be HTTP/2.
    pub(crate) speaks_http2: Cell<bool>,
    /// The caller is told to go with the next response.
    closing: Cell<bool>,
    /// Since when the codec is to finish what is open and close.
    shut: Cell<Option<Instant>>,
    /// The connection is dropped as it is.
    cut: Cell<bool>,
    /// Streams were open when the codec ended.
    broken_off: Cell<bool>,
    pub(super) watch: Arc<Watch>,
    /// Since when bytes are seen that belong to no stream.
    head_since: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
    /// This hop's element of `x-forwarded-client-cert`, made when first needed.
    xfcc: RefCell<Option<Option<HeaderValue>>>,
}

struct Current {
    snapshot: Arc<Snapshot>,
    manager: Arc<HttpConnectionManager>,
    stats: Rc<HttpStats>,
}

impl fmt::Debug for Downstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downstream")
            .field("remote", &self.info.remote)
            .finish_non_exhaustive()
    }
}

impl Downstream {
    pub(crate) fn new(info: Rc<ConnInfo>, manager: Arc<HttpConnectionManager>, worker: Rc<Worker>) -> Rc<Self> {
        let stats = worker.telemetry.http_stats(&manager.stat_prefix);
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        let now = Instant::now();
        let conn = Rc::new(Downstream {
            current: RefCell::new(Current {
                snapshot: worker.snapshot(),
                manager,
                stats,
            }),
            info,
            active: Cell::new(0),
            idle_since: Cell::new(now),
            opened: now,
            speaks_http2: Cell::new(false),
            closing: Cell::new(false),
            shut: Cell::new(None),
            cut: Cell::new(false),
            broken_off: Cell::new(false),
            watch: Arc::default(),
            head_since: Cell::new(None),
            waker: RefCell::new(None),
            xfcc: RefCell::new(None),
            worker,
        });
        conn.worker.http.add(&conn);
        conn
    }

    /// The configuration for a request that begins now.
    pub(crate) fn current(&self) -> (Arc<Snapshot>, Arc<HttpConnectionManager>, Rc<HttpStats>) {
        let snapshot = self.worker.snapshot();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(&current.snapshot, &snapshot) {
            match current_chain(&self.info, &snapshot).map(|chain| chain.terminal.clone()) {
                Some(Terminal::Http(manager)) => {
                    if !Arc::ptr_eq(&manager, &current.manager) {
                        if manager.stat_prefix != current.manager.stat_prefix {
                            current.stats = self.worker.telemetry.http_stats(&manager.stat_prefix);
                        }
                        current.manager = manager;
                    }
                }
                // Another protocol, or nothing, has this place now: the request is served as before, and is the last.
                Some(_) | None => self.closing.set(true),
            }
            current.snapshot = snapshot;
        }
        (current.snapshot.clone(), current.manager.clone(), current.stats.clone())
    }

    /// The manager in force when it was last asked for.
    pub(crate) fn manager(&self) -> Arc<HttpConnectionManager> {
        self.current.borrow().manager.clone()
    }

    pub(crate) fn stats(&self) -> Rc<HttpStats> {
        self.current.borrow().stats.clone()
    }

    pub(crate) fn request_started(&self) {
        self.active.set(self.active.get() + 1);
        self.watch.claim();
    }

    pub(crate) fn request_ended(&self, now: Instant) {
        let left = self.active.get().saturating_sub(1);
        self.active.set(left);
        if left == 0 {
            self.idle_since.set(now);
            self.watch.claim();
        }
    }

    /// Whether the next response tells the caller to go.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// The next response tells the caller to go.
    pub(crate) fn close_soon(&self) {
        self.closing.set(true);
    }

    /// The codec finishes what is open and closes.
    pub(crate) fn shut(&self) {
        self.closing.set(true);
        if self.shut.get().is_none() {
            self.shut.set(Some(Instant::now()));
        }
        self.wake();
    }

    /// The connection is dropped as it is.
    pub(super) fn cut(&self) {
        self.cut.set(true);
        self.wake();
    }

    /// The codec is done; what it still holds of streams is broken off.
    pub(super) fn codec_ended(&self) {
        self.broken_off.set(self.active.get() > 0);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// For the task of the connection: what it is to do; it is woken when that changes.
    pub(super) fn order(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        match (self.cut.get(), self.shut.get()) {
            (true, _) => Order::Cut,
            (false, Some(_)) => Order::Shut,
            (false, None) => Order::Serve,
        }
    }

    /// Whether the head of a request has been coming for too long.
    fn head_is_late(&self, manager: &HttpConnectionManager, now: Instant) -> bool {
        if self.speaks_http2.get() || self.active.get() > 0 || !self.watch.is_unclaimed() {
            self.head_since.set(None);
            return false;
        }
        let since = self.head_since.get().unwrap_or(now);
        self.head_since.set(Some(since));
        // As in Envoy, the stream's idle timeout holds for its head too.
        [manager.request_headers_timeout, manager.stream_idle_timeout]
            .into_iter()
            .flatten()
            .min()
            .is_some_and(|limit| now.saturating_duration_since(since) >= limit)
    }

    /// Whether it was told to end, has nothing left to do, and is still here.
    fn lingers(&self, now: Instant) -> bool {
        let Some(shut) = self.shut.get() else { return false };
        let since = shut.max(self.idle_since.get());
        self.active.get() == 0 && now.saturating_duration_since(since) >= LINGER
    }

    /// This hop's element of `x-forwarded-client-cert`.
    pub(crate) fn xfcc(&self) -> Option<HeaderValue> {
        self.xfcc
            .borrow_mut()
            .get_or_insert_with(|| self.info.tls.as_ref().and_then(xfcc::element))
            .clone()
    }
}

/// What the task of a connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    Serve,
    /// Finish what is open, then close.
    Shut,
    /// Drop the connection as it is.
    Cut,
}

impl Drop for Downstream {
    fn drop(&mut self) {
        let stats = &self.current.borrow().stats;
        stats.downstream_cx_active.dec();
        stats.downstream_cx_destroy.inc();
        let (by, by_with_streams) = if self.watch.has_ended() {
            (
                &stats.downstream_cx_destroy_remote,
                &stats.downstream_cx_destroy_remote_active_rq,
            )
        } else {
            (
                &stats.downstream_cx_destroy_local,
                &stats.downstream_cx_destroy_local_active_rq,
            )
        };
        by.inc();
        if self.broken_off.get() {
            stats.downstream_cx_destroy_active_rq.inc();
            by_with_streams.inc();
        }
    }
}

/// HTTP connections from callers of one worker.
#[derive(Debug, Default)]
pub struct Downstreams {
    open: RefCell<Vec<Weak<Downstream>>>,
    tended: Cell<bool>,
    added: Rc<Notify>,
}

impl Downstreams {
    fn add(&self, conn: &Rc<Downstream>) {
        let mut open = self.open.borrow_mut();
        if open.is_empty() {
            self.added.notify_one();
        }
        open.push(Rc::downgrade(conn));
        if !self.tended.replace(true) {
            tokio::task::spawn_local(tend(
                Rc::downgrade(&conn.worker),
                conn.worker.shared.drain.subscribe(),
                self.added.clone(),
            ));
        }
    }

    /// One round; false when nothing is open.
    pub(super) fn tend(&self, drain: Drain, now: Instant) -> bool {
        let mut shut = Vec::new();
        let mut cut = Vec::new();
        self.open.borrow_mut().retain(|conn| {
            let Some(conn) = conn.upgrade() else { return false };
            if drain != Drain::Running && conn.info.listener.direction != Direction::Outbound && !conn.is_closing() {
                conn.stats().downstream_cx_drain_close.inc();
                conn.close_soon();
                // HTTP/2 has a way to tell at once; on HTTP/1, a request may be on its way already.
                if conn.speaks_http2.get() {
                    shut.push(conn.clone());
                }
            }
            let manager = conn.manager();
            let idle = conn.active.get() == 0
                && manager
                    .idle_timeout
                    .is_some_and(|limit| now.saturating_duration_since(conn.idle_since.get()) >= limit);
            let old = manager
                .max_connection_duration
                .is_some_and(|limit| now.saturating_duration_since(conn.opened) >= limit);
            if conn.head_is_late(&manager, now) {
                conn.stats().downstream_rq_header_timeout.inc();
                cut.push(conn);
                return true;
            }
            if conn.lingers(now) {
                cut.push(conn);
                return true;
            }
            if idle && conn.shut.get().is_none() {
                conn.stats().downstream_cx_idle_timeout.inc();
            }
            if idle || old {
                shut.push(conn);
            }
            true
        });
        for conn in cut {
            conn.cut();
        }
        for conn in shut {
            conn.shut();
        }
        !self.open.borrow().is_empty()
    }
}

async fn tend(worker: Weak<Worker>, mut drain: tokio::sync::watch::Receiver<Drain>, added: Rc<Notify>) {
    let mut any = true;
    loop {
        if any {
            tokio::select! {
                changed = drain.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TEND) => {}
            }
        } else {
            added.notified().await;
        }
        let Some(worker) = worker.upgrade() else { return };
        let now_drain = *drain.borrow_and_update();
        any = worker.http.tend(now_drain, Instant::now());
    }
}
