//! Statistics of clusters. A sidecar knows every service of the mesh and calls a few: cells are made when a cluster is first
//! used, and until then it is listed with zeros.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::{Counter, Family, Gauge, Histogram, HistogramValues, Inclusion, Registry, Stat, StatValue};

/// `cluster.<name>.*`: what a cluster has from its start, and by [`Deref`] the cells of its traffic.
#[derive(Debug, Default)]
pub struct ClusterStats {
    /// `membership_total`
    pub membership_total: Level,
    /// `membership_healthy`
    pub membership_healthy: Level,
    registry: Weak<Registry>,
    name: Arc<str>,
    cells: OnceLock<Box<ClusterCells>>,
}

/// A number that is set, without a cell of its own.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// Sets it.
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// Value now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// All clusters that there are statistics of, by name.
pub(super) type Clusters = Mutex<BTreeMap<Arc<str>, Weak<ClusterStats>>>;

/// Defines the cells with the names of their statistics, so that those without cells can be listed.
macro_rules! cells {
    ($($(#[doc = $doc:literal])* $field:ident: $kind:ident = $name:literal,)*) => {
        /// What is counted of the traffic of a cluster.
        #[derive(Debug, Default)]
        pub struct ClusterCells {
            $($(#[doc = $doc])* pub $field: $kind,)*
            /// `upstream_rq_1xx` to `upstream_rq_5xx`
            pub upstream_rq_xx: [Counter; 5],
        }

        impl ClusterCells {
            fn new(registry: &Registry, cluster: &str) -> Self {
                let scope = registry.scope(Family::Cluster, cluster);
                ClusterCells {
                    $($field: cells!(@make scope, $kind, $name),)*
                    upstream_rq_xx: RQ_XX.map(|name| scope.counter(name)),
                }
            }
        }

        /// Every cell as it is listed before there is one.
        const ZEROS: &[(&str, StatValue)] = &[
            $(($name, cells!(@zero $kind)),)*
            (RQ_XX[0], StatValue::Counter(0)),
            (RQ_XX[1], StatValue::Counter(0)),
            (RQ_XX[2], StatValue::Counter(0)),
            (RQ_XX[3], StatValue::Counter(0)),
            (RQ_XX[4], StatValue::Counter(0)),
        ];
    };
    (@make $scope:ident, Counter, $name:literal) => { $scope.counter($name) };
    (@make $scope:ident, Gauge, $name:literal) => { $scope.gauge($name) };
    (@make $scope:ident, Histogram, $name:literal) => { $scope.histogram($name) };
    (@zero Counter) => { StatValue::Counter(0) };
    (@zero Gauge) => { StatValue::Gauge(0) };
    (@zero Histogram) => { StatValue::Histogram(HistogramValues::EMPTY) };
}

const RQ_XX: [&str; 5] = [
    "upstream_rq_1xx",
    "upstream_rq_2xx",
    "upstream_rq_3xx",
    "upstream_rq_4xx",
    "upstream_rq_5xx",
];

cells! {
    #[doc = " `upstream_cx_total`"]
    upstream_cx_total: Counter = "upstream_cx_total",
    #[doc = " `upstream_cx_active`"]
    upstream_cx_active: Gauge = "upstream_cx_active",
    #[doc = " `upstream_cx_connect_fail`"]
    upstream_cx_connect_fail: Counter = "upstream_cx_connect_fail",
    #[doc = " `upstream_cx_connect_timeout`"]
    upstream_cx_connect_timeout: Counter = "upstream_cx_connect_timeout",
    #[doc = " `upstream_cx_overflow`"]
    upstream_cx_overflow: Counter = "upstream_cx_overflow",
    #[doc = " `upstream_cx_http1_total`"]
    upstream_cx_http1_total: Counter = "upstream_cx_http1_total",
    #[doc = " `upstream_cx_http2_total`"]
    upstream_cx_http2_total: Counter = "upstream_cx_http2_total",
    #[doc = " `upstream_cx_rx_bytes_total`"]
    upstream_cx_rx_bytes_total: Counter = "upstream_cx_rx_bytes_total",
    #[doc = " `upstream_cx_tx_bytes_total`"]
    upstream_cx_tx_bytes_total: Counter = "upstream_cx_tx_bytes_total",
    #[doc = " `upstream_rq_total`"]
    upstream_rq_total: Counter = "upstream_rq_total",
    #[doc = " `upstream_rq_active`"]
    upstream_rq_active: Gauge = "upstream_rq_active",
    #[doc = " `upstream_rq_pending_total`"]
    upstream_rq_pending_total: Counter = "upstream_rq_pending_total",
    #[doc = " `upstream_rq_pending_overflow`"]
    upstream_rq_pending_overflow: Counter = "upstream_rq_pending_overflow",
    #[doc = " `upstream_rq_timeout`"]
    upstream_rq_timeout: Counter = "upstream_rq_timeout",
    #[doc = " `upstream_rq_per_try_timeout`"]
    upstream_rq_per_try_timeout: Counter = "upstream_rq_per_try_timeout",
    #[doc = " `upstream_rq_retry`"]
    upstream_rq_retry: Counter = "upstream_rq_retry",
    #[doc = " `upstream_rq_retry_success`"]
    upstream_rq_retry_success: Counter = "upstream_rq_retry_success",
    #[doc = " `upstream_rq_retry_overflow`"]
    upstream_rq_retry_overflow: Counter = "upstream_rq_retry_overflow",
    #[doc = " `upstream_rq_retry_limit_exceeded`"]
    upstream_rq_retry_limit_exceeded: Counter = "upstream_rq_retry_limit_exceeded",
    #[doc = " `upstream_rq_completed`"]
    upstream_rq_completed: Counter = "upstream_rq_completed",
    #[doc = " `ssl.handshake`"]
    ssl_handshake: Counter = "ssl.handshake",
    #[doc = " `ssl.connection_error`"]
    ssl_connection_error: Counter = "ssl.connection_error",
    #[doc = " `upstream_cx_none_healthy`"]
    upstream_cx_none_healthy: Counter = "upstream_cx_none_healthy",
    #[doc = " `upstream_rq_time`, ms"]
    upstream_rq_time: Histogram = "upstream_rq_time",
}

impl ClusterStats {
    /// The statistics of the cluster of this name; clusters of one name share them.
    pub fn new(registry: &Arc<Registry>, cluster: &str) -> Arc<Self> {
        let mut clusters = registry.clusters.lock();
        if let Some(found) = clusters.get(cluster).and_then(Weak::upgrade) {
            return found;
        }
        let name: Arc<str> = cluster.into();
        let made = Arc::new(ClusterStats {
            registry: Arc::downgrade(registry),
            name: name.clone(),
            ..ClusterStats::default()
        });
        clusters.insert(name, Arc::downgrade(&made));
        made
    }

    /// Adds what no table of the registry has: levels, and zeros for cells that there are not yet.
    fn list(&self, inclusion: &Inclusion, into: &mut Vec<Stat>) {
        let levels = [
            ("membership_total", StatValue::Gauge(self.membership_total.get())),
            ("membership_healthy", StatValue::Gauge(self.membership_healthy.get())),
        ];
        let zeros = if self.cells.get().is_none() { ZEROS } else { &[] };
        let mut name = format!("{}.{}.", Family::Cluster.word(), self.name);
        let prefix = name.len();
        for (short, value) in levels.iter().chain(zeros) {
            name.truncate(prefix);
            name.push_str(short);
            if inclusion.shows(&name) {
                into.push(Stat {
                    name: name.clone(),
                    owner: Some((Family::Cluster, self.name.clone())),
                    value: *value,
                });
            }
        }
    }
}

impl Deref for ClusterStats {
    type Target = ClusterCells;

    fn deref(&self) -> &ClusterCells {
        self.cells.get_or_init(|| {
            // Without a registry nothing lists them, and they count all the same.
            let registry = self.registry.upgrade();
            Box::new(registry.map_or_else(ClusterCells::default, |r| ClusterCells::new(&r, &self.name)))
        })
    }
}

pub(super) fn list(clusters: &Clusters, inclusion: &Inclusion, into: &mut Vec<Stat>) {
    let all: Vec<_> = clusters.lock().values().filter_map(Weak::upgrade).collect();
    all.iter().for_each(|c| c.list(inclusion, into));
}

/// Forgets clusters that are gone.
pub(super) fn sweep(clusters: &Clusters) {
    clusters.lock().retain(|_, c| c.strong_count() > 0);
}
