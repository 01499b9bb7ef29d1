//! Outlier detection (`Cluster.outlier_detection`): endpoints that fail too often get no traffic for a while.
//!
//! Requests only count, in atomics of their endpoint ([`observe`]). The one that brings a count to its limit ejects the
//! endpoint at once; [`run`], on the control thread, compares success rates and takes endpoints back when their time is over.

mod events;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

pub use events::log_to;

use super::balance::random;
use crate::shared::Shared;
use crate::snapshot::{Cluster, Ejections, Endpoint, HostMonitor, OutlierDetection, Threshold};

/// How a request, or a connection, went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered, with this status.
    Status(u16),
    /// The connection could not be opened.
    ConnectFailed,
    /// The connection broke after (a part of) the request was sent.
    Reset,
    /// No answer in time.
    Timeout,
    /// A connection was opened, and nothing is known of what goes over it.
    Connected,
}

/// Why an endpoint is ejected. The numbers are positions in [`crate::telemetry::stats::OutlierCells::detected`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `consecutive_5xx`
    Consecutive5xx = 0,
    /// `consecutive_gateway_failure`
    ConsecutiveGatewayFailure = 1,
    /// `consecutive_local_origin_failure`
    ConsecutiveLocalOriginFailure = 2,
    /// `success_rate_*`
    SuccessRate = 3,
    /// `success_rate_*` with errors of local origin.
    SuccessRateLocalOrigin = 4,
    /// `failure_percentage_*`
    FailurePercentage = 5,
    /// `failure_percentage_*` with errors of local origin.
    FailurePercentageLocalOrigin = 6,
}

impl Kind {
    /// Envoy's name of it in events.
    fn name(self) -> &'static str {
        match self {
            Kind::Consecutive5xx => "CONSECUTIVE_5XX",
            Kind::ConsecutiveGatewayFailure => "CONSECUTIVE_GATEWAY_FAILURE",
            Kind::ConsecutiveLocalOriginFailure => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
            Kind::SuccessRate => "SUCCESS_RATE",
            Kind::SuccessRateLocalOrigin => "SUCCESS_RATE_LOCAL_ORIGIN",
            Kind::FailurePercentage => "FAILURE_PERCENTAGE",
            Kind::FailurePercentageLocalOrigin => "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
        }
    }

    /// The field of Envoy's events that goes with it.
    fn detail(self) -> &'static str {
        match self {
            Kind::Consecutive5xx | Kind::ConsecutiveGatewayFailure | Kind::ConsecutiveLocalOriginFailure => {
                "eject_consecutive_event"
            }
            Kind::SuccessRate | Kind::SuccessRateLocalOrigin => "eject_success_rate_event",
            Kind::FailurePercentage | Kind::FailurePercentageLocalOrigin => "eject_failure_percentage_event",
        }
    }
}

/// Takes note of how a request went. Costs nothing where there is no outlier detection, and a few atomics where there is.
#[inline]
pub fn observe(cluster: &Cluster, endpoint: &Endpoint, outcome: Outcome) {
    if let Some(settings) = &cluster.outlier {
        record(cluster, settings, endpoint, outcome);
    }
}

/// [`observe`] for an answer. A gRPC status in the headers is worth the HTTP status that stands for it.
#[inline]
pub fn observe_answer(cluster: &Cluster, endpoint: &Endpoint, status: u16, headers: &HeaderMap, grpc: bool) {
    if let Some(settings) = &cluster.outlier {
        let of_grpc = headers.get("grpc-status").filter(|_| grpc);
        let of_grpc = of_grpc.and_then(|v| v.to_str().ok()?.parse().ok());
        let status = of_grpc.map_or(status, http_status);
        record(cluster, settings, endpoint, Outcome::Status(status));
    }
}

/// The HTTP status that stands for one of gRPC.
fn http_status(grpc: u32) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

fn record(cluster: &Cluster, settings: &OutlierDetection, endpoint: &Endpoint, outcome: Outcome) {
    let monitor = &**endpoint.state.monitor.get_or_init(Box::default);
    let detected = |kind| detected(cluster, settings, endpoint, monitor, kind);
    let external = |status: u16| {
        let error = (500..600).contains(&status);
        monitor.external.add(!error);
        let gateway = matches!(status, 502..=504);
        if count(&monitor.gateway_failures, gateway, settings.gateway_failure) {
            detected(Kind::ConsecutiveGatewayFailure);
        }
        if count(&monitor.consecutive_5xx, error, settings.consecutive_5xx) {
            detected(Kind::Consecutive5xx);
        }
    };
    let local = |failed: bool| {
        monitor.local.add(!failed);
        if count(&monitor.local_failures, failed, settings.local_origin) {
            detected(Kind::ConsecutiveLocalOriginFailure);
        }
    };
    match (settings.split, outcome) {
        (false, Outcome::Status(status)) => external(status),
        (false, Outcome::ConnectFailed | Outcome::Reset) => external(503),
        (false, Outcome::Timeout) => external(504),
        (false, Outcome::Connected) => external(200),
        (true, Outcome::Status(status)) => {
            local(false);
            external(status);
        }
        // There was a connection, which counts first.
        (true, Outcome::Reset | Outcome::Timeout) => {
            local(false);
            local(true);
        }
        (true, Outcome::ConnectFailed) => local(true),
        (true, Outcome::Connected) => local(false),
    }
}

/// Counts failures in a row; true for the one that reaches the threshold.
fn count(counter: &AtomicU32, failed: bool, threshold: Threshold) -> bool {
    if failed {
        return counter.fetch_add(1, Relaxed).wrapping_add(1) == threshold.count;
    }
    // Most answers are well, and find it at zero: nothing is written then.
    if counter.load(Relaxed) != 0 {
        counter.store(0, Relaxed);
    }
    false
}

fn reset(monitor: &HostMonitor, kind: Kind) {
    match kind {
        Kind::Consecutive5xx => monitor.consecutive_5xx.store(0, Relaxed),
        Kind::ConsecutiveGatewayFailure => monitor.gateway_failures.store(0, Relaxed),
        Kind::ConsecutiveLocalOriginFailure => monitor.local_failures.store(0, Relaxed),
        Kind::SuccessRate
        | Kind::SuccessRateLocalOrigin
        | Kind::FailurePercentage
        | Kind::FailurePercentageLocalOrigin => {}
    }
}

/// An endpoint is found out. Rare, so it may take a lock.
fn detected(cluster: &Cluster, settings: &OutlierDetection, endpoint: &Endpoint, monitor: &HostMonitor, kind: Kind) {
    let _one_at_a_time = cluster.state.ejecting.lock();
    if endpoint.state.ejected.load(Relaxed) {
        return;
    }
    let stats = cluster.stats.outlier();
    stats.detected[kind as usize].inc();
    match kind {
        Kind::Consecutive5xx => stats.ejections_consecutive_5xx.inc(),
        Kind::SuccessRate => stats.ejections_success_rate.inc(),
        _ => {}
    }
    // The next ones in a row are a matter of their own.
    reset(monitor, kind);
    let active = ejected(cluster);
    let within = 100 * (active + 1) <= settings.max_ejection_percent as usize * cluster.endpoints.len();
    let allowed = within || settings.always_eject_one && active == 0;
    if !allowed {
        stats.ejections_overflow.inc();
        return;
    }
    let mut ejections = monitor.ejections.lock();
    if random(100) >= enforcing(settings, kind) {
        events::ejected(cluster, endpoint, kind, &ejections, false);
        return;
    }
    ejections.since = Some(Instant::now());
    ejections.count += 1;
    let base = settings.base_ejection_time;
    if base.saturating_mul(ejections.backoff) < settings.max_ejection_time + base {
        ejections.backoff += 1;
    }
    ejections.jitter = settings.jitter.mul_f64(f64::from(random(1000)) / 1000.0);
    stats.enforced[kind as usize].inc();
    stats.ejections_enforced_total.inc();
    // Deprecated in Envoy, where the kinds that came later do not count.
    if matches!(kind, Kind::Consecutive5xx | Kind::SuccessRate) {
        stats.ejections_total.inc();
    }
    endpoint.state.ejected.store(true, Relaxed);
    health_changed(cluster);
    events::ejected(cluster, endpoint, kind, &ejections, true);
}

fn ejection_time(settings: &OutlierDetection, ejections: &Ejections) -> Duration {
    let time = settings.base_ejection_time.saturating_mul(ejections.backoff);
    time.min(settings.max_ejection_time) + ejections.jitter
}

fn enforcing(settings: &OutlierDetection, kind: Kind) -> u32 {
    match kind {
        Kind::Consecutive5xx => settings.consecutive_5xx.enforcing,
        Kind::ConsecutiveGatewayFailure => settings.gateway_failure.enforcing,
        Kind::ConsecutiveLocalOriginFailure => settings.local_origin.enforcing,
        Kind::SuccessRate => settings.success_rate.enforcing,
        Kind::SuccessRateLocalOrigin => settings.success_rate.enforcing_local,
        Kind::FailurePercentage => settings.failure_percentage.enforcing,
        Kind::FailurePercentageLocalOrigin => settings.failure_percentage.enforcing_local,
    }
}

fn ejected(cluster: &Cluster) -> usize {
    let ejected = |e: &&Arc<Endpoint>| e.state.ejected.load(Relaxed);
    cluster.endpoints.iter().filter(ejected).count()
}

/// Has the tables made anew at the next pick, and the gauges agree.
pub(super) fn health_changed(cluster: &Cluster) {
    cluster.state.health.fetch_add(1, Release);
    let healthy = cluster.endpoints.iter().filter(|e| e.takes_traffic()).count();
    let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
    cluster.stats.membership_healthy.set(healthy);
    cluster.stats.set_ejected(ejected(cluster));
}

/// Ends intervals of all clusters that have outlier detection. Runs on the control thread as long as the proxy.
pub async fn run(shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    let mut due: HashMap<Arc<str>, Instant> = HashMap::new();
    loop {
        changed.mark_unchanged();
        let snapshot = shared.snapshot.load_full();
        let mut watched: HashMap<Arc<str>, Instant> = HashMap::new();
        let now = Instant::now();
        for cluster in snapshot.clusters.values() {
            let Some(settings) = &cluster.outlier else { continue };
            let mut at = due.get(&cluster.name).copied().unwrap_or(now + settings.interval);
            if at <= now {
                sweep(cluster, settings, now);
                at = now + settings.interval;
            }
            watched.insert(cluster.name.clone(), at.min(now + settings.interval));
        }
        due = watched;
        drop(snapshot);
        let next = due.values().min().copied();
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            gone = changed.changed() => if gone.is_err() { return },
        }
    }
}

/// Ends an interval of one cluster: takes back whose time is over, then compares success rates.
pub(crate) fn sweep(cluster: &Cluster, settings: &OutlierDetection, now: Instant) {
    let mut external = Vec::new();
    let mut local = Vec::new();
    {
        let _one_at_a_time = cluster.state.ejecting.lock();
        let mut back = false;
        for endpoint in &cluster.endpoints {
            let Some(monitor) = endpoint.state.monitor.get() else {
                continue;
            };
            back |= take_back(cluster, settings, endpoint, monitor, now);
            let rates = (monitor.external.turn(), monitor.local.turn());
            if endpoint.state.ejected.load(Relaxed) {
                continue;
            }
            external.extend(rates.0.map(|(percent, total)| (endpoint, percent, total)));
            local.extend(rates.1.map(|(percent, total)| (endpoint, percent, total)));
        }
        if back {
            health_changed(cluster);
        } else {
            // Endpoints may have gone by configuration.
            cluster.stats.set_ejected(ejected(cluster));
        }
    }
    compare(cluster, settings, &external, false);
    if settings.split {
        compare(cluster, settings, &local, true);
    }
}

fn take_back(
    cluster: &Cluster,
    settings: &OutlierDetection,
    endpoint: &Endpoint,
    monitor: &HostMonitor,
    now: Instant,
) -> bool {
    let mut ejections = monitor.ejections.lock();
    if !endpoint.state.ejected.load(Relaxed) {
        ejections.backoff = ejections.backoff.saturating_sub(1);
        return false;
    }
    let time = ejection_time(settings, &ejections);
    let over = ejections
        .since
        .is_none_or(|since| now.saturating_duration_since(since) >= time);
    if over {
        for counter in [
            &monitor.consecutive_5xx,
            &monitor.gateway_failures,
            &monitor.local_failures,
        ] {
            counter.store(0, Relaxed);
        }
        endpoint.state.ejected.store(false, Relaxed);
        ejections.back = Some(now);
        events::taken_back(cluster, endpoint, &ejections);
    }
    over
}

/// Endpoints with their percentage of success and number of requests in the interval that ended.
fn compare(cluster: &Cluster, settings: &OutlierDetection, rates: &[(&Arc<Endpoint>, f64, u32)], local: bool) {
    let find = |endpoint: &Endpoint, kind| {
        if let Some(monitor) = endpoint.state.monitor.get() {
            detected(cluster, settings, endpoint, monitor, kind);
        }
    };
    let by_rate = &settings.success_rate;
    let by_percentage = &settings.failure_percentage;
    for (endpoint, percent, total) in rates {
        if let Some(monitor) = endpoint.state.monitor.get()
            && *total >= by_rate.request_volume.min(by_percentage.request_volume)
        {
            let rate = if local { &monitor.local } else { &monitor.external };
            rate.keep(*percent);
        }
    }
    let enough = |volume: u32, hosts: u32| {
        let chosen: Vec<_> = rates.iter().filter(|(_, _, total)| *total >= volume).collect();
        (!chosen.is_empty() && chosen.len() >= hosts as usize).then_some(chosen)
    };
    if let Some(chosen) = enough(by_rate.request_volume, by_rate.minimum_hosts) {
        #[allow(clippy::cast_precision_loss)]
        let count = chosen.len() as f64;
        let mean = chosen.iter().map(|(_, percent, _)| percent).sum::<f64>() / count;
        let variance = chosen
            .iter()
            .map(|(_, percent, _)| (percent - mean).powi(2))
            .sum::<f64>()
            / count;
        let least = mean - variance.sqrt() * f64::from(settings.stdev_factor) / 1000.0;
        for (endpoint, percent, _) in chosen {
            if *percent < least {
                find(
                    endpoint,
                    if local {
                        Kind::SuccessRateLocalOrigin
                    } else {
                        Kind::SuccessRate
                    },
                );
            }
        }
    }
    if let Some(chosen) = enough(by_percentage.request_volume, by_percentage.minimum_hosts) {
        for (endpoint, percent, _) in chosen {
            if 100.0 - percent >= f64::from(settings.failure_threshold) {
                let kind = if local {
                    Kind::FailurePercentageLocalOrigin
                } else {
                    Kind::FailurePercentage
                };
                find(endpoint, kind);
            }
        }
    }
}
