//! One request and its response, from the first byte to the last.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method, StatusCode, Version};

use super::Downstream;
use super::body::BodyError;
use crate::snapshot::{Direction, HttpConnectionManager, Snapshot};
use crate::telemetry::stats::HttpStats;
use crate::telemetry::{RequestContext, RequestRecord, ResponseFlags, request};

/// Shared by the handler and the two bodies; the books are closed when the last of them is gone, which is when the stream
/// is, whichever way it ended.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) conn: Rc<Downstream>,
    pub(crate) manager: Arc<HttpConnectionManager>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) stats: Rc<HttpStats>,
    record: RefCell<RequestRecord>,
    /// There is an access log.
    pub(crate) logged: bool,
    /// Some access log prints headers.
    pub(crate) keeps_headers: bool,
    /// When bytes moved last; kept only while somebody watches.
    activity: Cell<Option<Instant>>,
    request_done: Cell<Option<Instant>>,
    response_done: Cell<bool>,
    /// The response was broken off by this side.
    broken_off: Cell<bool>,
    /// The caller left before its request was read wholly.
    left: Cell<bool>,
    /// An upgrade was granted: bytes pass from now on.
    pub(crate) tunneled: Cell<bool>,
}

impl Stream {
    pub(crate) fn start(conn: &Rc<Downstream>, version: Version) -> Rc<Self> {
        let (snapshot, manager, stats) = conn.current();
        stats.downstream_rq_total.inc();
        stats.downstream_rq_active.inc();
        conn.request_started();
        let logged = !manager.access_logs.is_empty();
        let mut record = RequestRecord::start(conn.info.listener.direction, version);
        if logged {
            record.start_time = Some(SystemTime::now());
        }
        Rc::new(Stream {
            conn: conn.clone(),
            logged,
            keeps_headers: logged && request::wants_headers(&manager),
            record: RefCell::new(record),
            manager,
            snapshot,
            stats,
            activity: Cell::new(None),
            request_done: Cell::new(None),
            response_done: Cell::new(false),
            broken_off: Cell::new(false),
            left: Cell::new(false),
            tunneled: Cell::new(false),
        })
    }

    /// Side of the application.
    pub(crate) fn direction(&self) -> Direction {
        self.conn.info.listener.direction
    }

    /// Writes into the record. Not to be nested.
    pub(crate) fn note<T>(&self, write: impl FnOnce(&mut RequestRecord) -> T) -> T {
        write(&mut self.record.borrow_mut())
    }

    /// Adds a response flag and, if there is none yet, details.
    pub(crate) fn flag(&self, flag: ResponseFlags, details: impl Into<Cow<'static, str>>) {
        self.note(|r| {
            r.flags.set(flag);
            r.details = details.into();
        });
    }

    /// From now on it is watched for idleness.
    pub(crate) fn watch_activity(&self) {
        if self.activity.get().is_none() {
            self.activity.set(Some(Instant::now()));
        }
    }

    pub(crate) fn active_at(&self) -> Option<Instant> {
        self.activity.get()
    }

    fn moved(&self) {
        if self.activity.get().is_some() {
            self.activity.set(Some(Instant::now()));
        }
    }

    /// When its first byte was seen.
    pub(crate) fn started_at(&self) -> Instant {
        self.record.borrow().start
    }

    /// When the request was read wholly.
    pub(crate) fn request_done(&self) -> Option<Instant> {
        self.request_done.get()
    }

    pub(crate) fn request_data(&self, bytes: usize) {
        self.moved();
        self.record.borrow_mut().bytes_received += bytes as u64;
    }

    /// It has no body: it was read wholly when its first byte was seen, as far as clocks matter.
    pub(crate) fn request_without_body(&self) {
        let mut record = self.record.borrow_mut();
        record.request_done = Some(record.start);
        self.request_done.set(record.request_done);
    }

    pub(crate) fn request_finished(&self) {
        if self.request_done.get().is_none() {
            let now = Some(Instant::now());
            self.request_done.set(now);
            self.record.borrow_mut().request_done = now;
        }
    }

    /// The request ended before its end.
    pub(crate) fn request_broken_off(&self, error: &BodyError) {
        let gone = self.conn.watch.has_ended();
        if gone || error.is_remote_reset() {
            self.left.set(true);
        }
        // HTTP/1's codec would go on to wait for an answer.
        if gone && !self.conn.speaks_http2.get() {
            self.conn.cut();
        }
    }

    /// Whether the caller left before its request was read wholly: nobody waits for an answer, and the codec is about to
    /// drop all that is done for it.
    pub(crate) fn caller_left(&self) -> bool {
        self.left.get()
    }

    pub(crate) fn response_started(&self, status: StatusCode, headers: &HeaderMap) {
        self.moved();
        let mut record = self.record.borrow_mut();
        record.response_code = status.as_u16();
        record.response_start.get_or_insert_with(Instant::now);
        record.response_header_bytes = request::header_size(headers);
        if record.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            // HTTP/1's codec does not ask such a body for its end.
            self.response_finished();
        }
        if record.grpc
            && let Some(status) = grpc_status(headers)
        {
            record.grpc_status = Some(status);
        }
        if self.keeps_headers {
            record.response_headers = Some(Box::new(headers.clone()));
        }
    }

    pub(crate) fn response_data(&self, bytes: usize) {
        self.moved();
        self.record.borrow_mut().bytes_sent += bytes as u64;
    }

    pub(crate) fn response_trailers(&self, trailers: &HeaderMap) {
        let mut record = self.record.borrow_mut();
        if record.grpc
            && let Some(status) = grpc_status(trailers)
        {
            record.grpc_status = Some(status);
        }
        if self.keeps_headers {
            record.response_trailers = Some(Box::new(trailers.clone()));
        }
    }

    /// The last byte of the response was handed over.
    pub(crate) fn response_finished(&self) {
        self.response_done.set(true);
    }

    /// The response has begun and is broken off: the upstream failed, or a limit of time has passed.
    pub(crate) fn response_broken_off(&self) {
        self.broken_off.set(true);
    }

    /// Whether the stream ends without a word from this side: it was the caller who left.
    fn was_left(&self) -> bool {
        !self.response_done.get() && !self.broken_off.get()
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.trim().parse().ok()
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (left, broken_off) = (self.was_left(), self.broken_off.get());
        let record = self.record.get_mut();
        if left {
            let reset = record.version == Version::HTTP_2 && !self.conn.watch.has_ended();
            let (flag, details) = if reset {
                (ResponseFlags::DOWNSTREAM_REMOTE_RESET, "http2.remote_reset")
            } else {
                (
                    ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION,
                    "downstream_remote_disconnect",
                )
            };
            record.flags.set(flag);
            record.details = Cow::Borrowed(details);
        }
        let now = Instant::now();
        record.end = Some(now);
        self.stats.downstream_rq_active.dec();
        // As in Envoy, a stream is counted as reset whichever side has done it.
        if left || broken_off {
            self.stats.downstream_rq_rx_reset.inc();
        }
        if broken_off {
            self.stats.downstream_rq_tx_reset.inc();
        }
        if record.response_code != 0 {
            self.stats.downstream_rq_completed.inc();
            let class = usize::from(record.response_code / 100).clamp(1, 5) - 1;
            self.stats.downstream_rq_xx[class].inc();
        }
        self.conn.request_ended(now);
        let ctx = RequestContext {
            conn: &self.conn.info,
            manager: &self.manager,
            stats: &self.stats,
            telemetry: &self.conn.worker.telemetry,
        };
        request::finish(record, &ctx);
    }
}
