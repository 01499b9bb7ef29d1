//! Telemetry of one worker: caches that need no lock.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::istio::SeriesCache;
use super::peer::{OwnMetadata, PeerCache};
use super::stats::{HttpStats, ListenerStats, Registry, TcpStats};
use crate::shared::Node;
use crate::snapshot::Map;

/// What one worker keeps for its telemetry. Never leaves its thread.
#[derive(Debug)]
pub struct WorkerTelemetry {
    pub(super) worker: usize,
    pub(super) registry: Arc<Registry>,
    pub(super) node: Node,
    /// Our own metadata, encoded once.
    pub(super) own: Option<OwnMetadata>,
    pub(super) peers: RefCell<PeerCache>,
    pub(super) series: RefCell<SeriesCache>,
    http: RefCell<Map<Arc<str>, Rc<HttpStats>>>,
    listeners: RefCell<Map<Arc<str>, Rc<ListenerStats>>>,
    tcp: RefCell<Map<Arc<str>, Rc<TcpStats>>>,
}

impl WorkerTelemetry {
    /// For worker number `worker`.
    pub fn new(worker: usize, registry: Arc<Registry>, node: &Node) -> Self {
        WorkerTelemetry {
            worker,
            registry,
            node: node.clone(),
            own: node.workload.as_ref().map(|w| OwnMetadata::new(&node.id, w)),
            peers: RefCell::default(),
            series: RefCell::default(),
            http: RefCell::default(),
            listeners: RefCell::default(),
            tcp: RefCell::default(),
        }
    }

    /// `http.<stat_prefix>.*`; resolve once a connection.
    pub fn http_stats(&self, stat_prefix: &Arc<str>) -> Rc<HttpStats> {
        get_or_make(&self.http, stat_prefix, |p| HttpStats::new(&self.registry, p))
    }

    /// `listener.<stat_prefix>.*`; resolve once a listener or connection.
    pub fn listener_stats(&self, stat_prefix: &Arc<str>) -> Rc<ListenerStats> {
        get_or_make(&self.listeners, stat_prefix, |p| ListenerStats::new(&self.registry, p))
    }

    /// `tcp.<stat_prefix>.*`; resolve once a connection.
    pub fn tcp_stats(&self, stat_prefix: &Arc<str>) -> Rc<TcpStats> {
        get_or_make(&self.tcp, stat_prefix, |p| TcpStats::new(&self.registry, p))
    }
}

fn get_or_make<T>(cache: &RefCell<Map<Arc<str>, Rc<T>>>, prefix: &Arc<str>, make: impl Fn(&str) -> T) -> Rc<T> {
    if let Some(found) = cache.borrow().get(prefix) {
        return Rc::clone(found);
    }
    let made = Rc::new(make(prefix));
    cache.borrow_mut().insert(Arc::clone(prefix), Rc::clone(&made));
    made
}
