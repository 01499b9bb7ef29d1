//! Statistics of clusters. A sidecar knows every service of the mesh and calls a few: cells are made when a cluster is first
//! used, and until then it is listed with zeros.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use http::StatusCode;
use parking_lot::Mutex;

use super::health_check::HealthCheckCells;
use super::outlier::{self, OutlierCells};
use super::{Counter, Family, Gauge, Histogram, HistogramValues, Inclusion, Registry, Stat, StatValue};
use crate::snapshot::{ClusterState, Limits};

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
    /// The cluster has outlier detection.
    pub has_outlier_detection: AtomicBool,
    outlier: OnceLock<Box<OutlierCells>>,
    health_check: OnceLock<Box<HealthCheckCells>>,
    breakers: Mutex<Breakers>,
}

/// What the circuit breakers are judged by when somebody looks.
#[derive(Debug, Default)]
struct Breakers {
    state: Weak<ClusterState>,
    limits: Option<Limits>,
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
    #[doc = " `upstream_cx_connect_attempts_exceeded`"]
    upstream_cx_connect_attempts_exceeded: Counter = "upstream_cx_connect_attempts_exceeded",
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
    #[doc = " `upstream_rq_active_overflow`"]
    upstream_rq_active_overflow: Counter = "upstream_rq_active_overflow",
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

    /// A request has its answer, from an endpoint or in place of one. Answers that are retried are not counted.
    pub fn answered(&self, status: StatusCode) {
        self.upstream_rq_completed.inc();
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.upstream_rq_xx[class].inc();
    }

    /// `outlier_detection.*`, made when the first thing is counted.
    pub fn outlier(&self) -> &OutlierCells {
        self.outlier.get_or_init(|| {
            let registry = self.registry.upgrade();
            Box::new(registry.map_or_else(OutlierCells::default, |r| OutlierCells::new(&r, &self.name)))
        })
    }

    /// `health_check.*`, made at the first check.
    pub fn health_check(&self) -> &HealthCheckCells {
        self.health_check.get_or_init(|| {
            let registry = self.registry.upgrade();
            Box::new(registry.map_or_else(HealthCheckCells::default, |r| HealthCheckCells::new(&r, &self.name)))
        })
    }

    /// Sets `outlier_detection.ejections_active`.
    pub fn set_ejected(&self, ejected: usize) {
        if ejected > 0 || self.outlier.get().is_some() {
            let ejected = i64::try_from(ejected).unwrap_or(i64::MAX);
            self.outlier().ejections_active.set(ejected);
        }
    }

    /// Tells `circuit_breakers.default.*` where to look. Nothing is counted for them while requests pass.
    pub fn watch_limits(&self, state: &Arc<ClusterState>, limits: Limits) {
        *self.breakers.lock() = Breakers {
            state: Arc::downgrade(state),
            limits: Some(limits),
        };
    }

    /// `circuit_breakers.default.*`: which limits are reached, and with `track_remaining` how much is left of each.
    fn breakers(&self) -> Vec<(&'static str, StatValue)> {
        let breakers = self.breakers.lock();
        let (Some(state), Some(limits)) = (breakers.state.upgrade(), breakers.limits) else {
            return Vec::new();
        };
        let left = |limit: u32, used: &AtomicU32| limit.saturating_sub(used.load(Relaxed));
        let connections = left(limits.max_connections, &state.connections);
        let pending = left(limits.max_pending_requests, &state.pending);
        let requests = left(limits.max_requests, &state.requests);
        let retries = left(limits.retries(&state), &state.retries);
        let gauge = |n: u32| StatValue::Gauge(i64::from(n));
        let open = |left: u32| gauge(u32::from(left == 0));
        // Envoy finds a limit reached when something is taken, so that one of 0 never is.
        let retrying = state.retries.load(Relaxed) > 0;
        let mut all = vec![
            ("circuit_breakers.default.cx_open", open(connections)),
            // `max_connection_pools` is refused, so there is no limit to reach.
            ("circuit_breakers.default.cx_pool_open", gauge(0)),
            ("circuit_breakers.default.rq_open", open(requests)),
            ("circuit_breakers.default.rq_pending_open", open(pending)),
            (
                "circuit_breakers.default.rq_retry_open",
                gauge(u32::from(retrying && retries == 0)),
            ),
        ];
        if limits.track_remaining {
            all.extend([
                ("circuit_breakers.default.remaining_cx", gauge(connections)),
                ("circuit_breakers.default.remaining_pending", gauge(pending)),
                ("circuit_breakers.default.remaining_retries", gauge(retries)),
                ("circuit_breakers.default.remaining_rq", gauge(requests)),
            ]);
        }
        all
    }

    /// Adds what no table of the registry has: levels, breakers, and zeros for cells that there are not yet.
    fn list(&self, inclusion: &Inclusion, into: &mut Vec<Stat>) {
        let levels = [
            ("membership_total", StatValue::Gauge(self.membership_total.get())),
            ("membership_healthy", StatValue::Gauge(self.membership_healthy.get())),
        ];
        let zeros = if self.cells.get().is_none() { ZEROS } else { &[] };
        let mut name = format!("{}.{}.", Family::Cluster.word(), self.name);
        let prefix = name.len();
        let unused = self.has_outlier_detection.load(Relaxed) && self.outlier.get().is_none();
        let outlier_zeros = unused.then(outlier::zeros).into_iter().flatten();
        for (short, value) in levels
            .into_iter()
            .chain(self.breakers())
            .chain(zeros.iter().copied())
            .chain(outlier_zeros)
        {
            name.truncate(prefix);
            name.push_str(short);
            if inclusion.shows(&name) {
                into.push(Stat {
                    name: name.clone(),
                    owner: Some((Family::Cluster, self.name.clone())),
                    value,
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
