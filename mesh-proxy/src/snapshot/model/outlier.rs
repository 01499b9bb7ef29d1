//! Outlier detection: its settings, and what it knows of an endpoint. What it does is in [`crate::upstream::outlier`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// `envoy.config.cluster.v3.OutlierDetection`, with Envoy's defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierDetection {
    /// `interval`, default 10 s.
    pub interval: Duration,
    /// `base_ejection_time`, default 30 s: times the number of ejections in a row.
    pub base_ejection_time: Duration,
    /// `max_ejection_time`, default 300 s, at least the base.
    pub max_ejection_time: Duration,
    /// `max_ejection_time_jitter`, default 0.
    pub jitter: Duration,
    /// `max_ejection_percent`, default 10.
    pub max_ejection_percent: u32,
    /// `always_eject_one_host`.
    pub always_eject_one: bool,
    /// `split_external_local_origin_errors`.
    pub split: bool,
    /// `consecutive_5xx`, default 5, enforced.
    pub consecutive_5xx: Threshold,
    /// `consecutive_gateway_failure`, default 5, not enforced.
    pub gateway_failure: Threshold,
    /// `consecutive_local_origin_failure`, default 5, enforced.
    pub local_origin: Threshold,
    /// `success_rate_*`.
    pub success_rate: RateRule,
    /// `success_rate_stdev_factor` in thousandths, default 1900.
    pub stdev_factor: u32,
    /// `failure_percentage_*`.
    pub failure_percentage: RateRule,
    /// `failure_percentage_threshold`, default 85.
    pub failure_threshold: u32,
}

/// So many in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// Failures; 0 for never.
    pub count: u32,
    /// Percent of the detections that lead to an ejection.
    pub enforcing: u32,
}

/// Endpoints compared over an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateRule {
    /// Percent of the detections that lead to an ejection.
    pub enforcing: u32,
    /// The same for errors of local origin.
    pub enforcing_local: u32,
    /// Endpoints with enough requests, without which nothing is compared.
    pub minimum_hosts: u32,
    /// Requests in the interval, without which an endpoint is left out.
    pub request_volume: u32,
}

/// What is found out about an endpoint.
#[derive(Debug, Default)]
pub struct HostMonitor {
    /// Server errors in a row.
    pub consecutive_5xx: AtomicU32,
    /// 502, 503 and 504 in a row.
    pub gateway_failures: AtomicU32,
    /// Failed connections and timeouts in a row, where they are told from the others.
    pub local_failures: AtomicU32,
    /// Answers in this interval.
    pub external: Rate,
    /// Connections in this interval.
    pub local: Rate,
    /// Ejections so far.
    pub ejections: Mutex<Ejections>,
    /// When the endpoint came, for slow start.
    pub since: OnceLock<Instant>,
}

/// How many, and how many of them were well.
#[derive(Debug, Default)]
pub struct Rate {
    /// All.
    pub total: AtomicU32,
    /// Those without error.
    pub success: AtomicU32,
    /// Bits of the percentage of the last interval plus one; 0 when there is none.
    last: AtomicU64,
}

impl Rate {
    /// Adds one.
    pub fn add(&self, success: bool) {
        self.total.fetch_add(1, Relaxed);
        if success {
            self.success.fetch_add(1, Relaxed);
        }
    }

    /// What the interval that ends now brought, as percentage and number of requests; starts the next one.
    pub fn turn(&self) -> Option<(f64, u32)> {
        let success = self.success.swap(0, Relaxed);
        let total = self.total.swap(0, Relaxed);
        self.last.store(0, Relaxed);
        (total > 0).then(|| (f64::from(success) * 100.0 / f64::from(total), total))
    }

    /// Keeps a percentage for those who ask.
    pub fn keep(&self, percentage: f64) {
        self.last.store((percentage + 1.0).to_bits(), Relaxed);
    }

    /// Percentage of the last interval; -1 when there is none, as Envoy shows it.
    pub fn last(&self) -> f64 {
        f64::from_bits(self.last.load(Relaxed)) - 1.0
    }
}

/// Ejections of one endpoint.
#[derive(Debug, Default)]
pub struct Ejections {
    /// How many base times the last one takes: one more with each, one less with each healthy interval.
    pub backoff: u32,
    /// Ejections so far.
    pub count: u32,
    /// When the last one began.
    pub since: Option<Instant>,
    /// When it took traffic again last.
    pub back: Option<Instant>,
    /// Random part of the last one.
    pub jitter: Duration,
}
