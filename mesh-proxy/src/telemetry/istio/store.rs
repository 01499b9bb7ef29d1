//! Series of Istio's metrics, with a bound on how many there may be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use super::super::stats::{Counter, Histogram, HistogramValues};

/// Combinations of labels that are kept, of HTTP and of TCP each. One of HTTP is 70 lines of Prometheus text and 600
/// bytes a worker. Callers choose some labels (the authority of unknown services), so there has to be an end.
pub(super) const MAX_SERIES: usize = 2_000;

/// What stands in labels that cannot be told apart any more.
const OVERFLOW: &str = "overflow";

type Labels = Box<[Box<str>]>;

/// All series of the process.
#[derive(Debug)]
pub struct Store {
    http: Mutex<BTreeMap<Labels, Cells<HttpCells>>>,
    tcp: Mutex<BTreeMap<Labels, Cells<TcpCells>>>,
    limit: usize,
    overflow_said: AtomicBool,
    /// Requests and connections that were counted under the overflow labels.
    pub overflowed: Counter,
}

/// One cell for each worker, so that no two write to one cache line.
type Cells<T> = Vec<Option<Arc<T>>>;

/// Counters of one combination of labels on one worker.
#[derive(Debug, Default)]
pub(super) struct HttpCells {
    pub(super) requests: Counter,
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    pub(super) request_messages: Counter,
    pub(super) response_messages: Counter,
}

#[derive(Debug, Default)]
pub(super) struct TcpCells {
    opened: Counter,
    closed: Counter,
    sent: Counter,
    received: Counter,
}

/// Where one TCP connection is counted.
#[derive(Debug, Clone)]
pub struct TcpHandles(Arc<TcpCells>);

impl TcpHandles {
    pub(super) fn opened(&self) {
        self.0.opened.inc();
    }

    pub(in super::super) fn bytes(&self, received: u64, sent: u64) {
        self.0.received.add(received);
        self.0.sent.add(sent);
    }

    pub(in super::super) fn closed(&self) {
        self.0.closed.inc();
    }
}

/// An HTTP series as it is written out.
#[derive(Debug, Clone)]
pub struct HttpSeries {
    /// Values of [`super::HTTP_LABELS`].
    pub labels: Labels,
    /// `istio_requests_total`
    pub requests: u64,
    /// `istio_request_duration_milliseconds`
    pub duration: HistogramValues,
    /// `istio_request_bytes`
    pub request_bytes: HistogramValues,
    /// `istio_response_bytes`
    pub response_bytes: HistogramValues,
    /// `istio_request_messages_total`
    pub request_messages: u64,
    /// `istio_response_messages_total`
    pub response_messages: u64,
}

/// A TCP series as it is written out.
#[derive(Debug, Clone)]
pub struct TcpSeries {
    /// Values of [`super::TCP_LABELS`].
    pub labels: Labels,
    /// `istio_tcp_connections_opened_total`
    pub opened: u64,
    /// `istio_tcp_connections_closed_total`
    pub closed: u64,
    /// `istio_tcp_sent_bytes_total`
    pub sent: u64,
    /// `istio_tcp_received_bytes_total`
    pub received: u64,
}

impl Default for Store {
    fn default() -> Self {
        Store::with_limit(MAX_SERIES)
    }
}

impl Store {
    /// With another bound than [`MAX_SERIES`].
    pub fn with_limit(limit: usize) -> Self {
        Store {
            http: Mutex::default(),
            tcp: Mutex::default(),
            limit,
            overflow_said: AtomicBool::new(false),
            overflowed: Counter::default(),
        }
    }

    pub(super) fn http(&self, worker: usize, labels: Labels) -> Arc<HttpCells> {
        self.cell(&self.http, worker, labels)
    }

    pub(super) fn tcp(&self, worker: usize, labels: Labels) -> TcpHandles {
        TcpHandles(self.cell(&self.tcp, worker, labels))
    }

    fn cell<T: Default>(&self, table: &Mutex<BTreeMap<Labels, Cells<T>>>, worker: usize, mut labels: Labels) -> Arc<T> {
        let mut table = table.lock();
        if table.len() >= self.limit && !table.contains_key(&labels) {
            self.overflowed.inc();
            if !self.overflow_said.swap(true, Relaxed) {
                tracing::warn!(
                    limit = self.limit,
                    "Istio metrics have reached their limit of series; new combinations of labels are counted together \
                     with the label value \"overflow\". Look for callers that send many different Host headers"
                );
            }
            // The reporter stays: who adds up one side only still gets the right sum.
            labels.iter_mut().skip(1).for_each(|l| *l = OVERFLOW.into());
        }
        let cells = table.entry(labels).or_default();
        if cells.len() <= worker {
            cells.resize_with(worker + 1, || None);
        }
        Arc::clone(cells[worker].get_or_insert_default())
    }

    /// All HTTP series, by labels.
    pub fn http_series(&self) -> Vec<HttpSeries> {
        let table = self.http.lock();
        let sum = |(labels, cells): (&Labels, &Cells<HttpCells>)| {
            let mut sum = HttpSeries {
                labels: labels.clone(),
                requests: 0,
                duration: HistogramValues::default(),
                request_bytes: HistogramValues::default(),
                response_bytes: HistogramValues::default(),
                request_messages: 0,
                response_messages: 0,
            };
            for cell in cells.iter().flatten() {
                sum.requests += cell.requests.get();
                cell.duration.add_to(&mut sum.duration);
                cell.request_bytes.add_to(&mut sum.request_bytes);
                cell.response_bytes.add_to(&mut sum.response_bytes);
                sum.request_messages += cell.request_messages.get();
                sum.response_messages += cell.response_messages.get();
            }
            sum
        };
        table.iter().map(sum).collect()
    }

    /// All TCP series, by labels.
    pub fn tcp_series(&self) -> Vec<TcpSeries> {
        let table = self.tcp.lock();
        let sum = |(labels, cells): (&Labels, &Cells<TcpCells>)| {
            let add = |get: fn(&TcpCells) -> &Counter| cells.iter().flatten().map(|c| get(c).get()).sum();
            TcpSeries {
                labels: labels.clone(),
                opened: add(|c| &c.opened),
                closed: add(|c| &c.closed),
                sent: add(|c| &c.sent),
                received: add(|c| &c.received),
            }
        };
        table.iter().map(sum).collect()
    }

    /// Sets everything to zero.
    pub fn reset(&self) {
        for cell in self.http.lock().values().flatten().flatten() {
            cell.requests.reset();
            cell.duration.reset();
            cell.request_bytes.reset();
            cell.response_bytes.reset();
            cell.request_messages.reset();
            cell.response_messages.reset();
        }
        for cell in self.tcp.lock().values().flatten().flatten() {
            for counter in [&cell.opened, &cell.closed, &cell.sent, &cell.received] {
                counter.reset();
            }
        }
    }
}
