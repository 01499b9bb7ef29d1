//! The admin API, readiness, and the metrics ports. All of it runs on the control thread.
//!
//! - [`server`]: a small HTTP server. [`router`]: the admin API's paths. [`status`]: ports 15020, 15021 and 15090.
//! - One module for each kind of page: [`stats`], [`config_dump`], [`clusters`], [`certs`], [`info`], [`logging`], [`probe`].

mod certs;
mod clusters;
mod config_dump;
mod info;
mod json;
mod logging;
mod probe;
mod router;
mod scrape;
mod server;
mod stats;
mod status;

pub use logging::LogControl;
pub use probe::AppProbes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use mesh_api::envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;

use crate::shared::Shared;
use crate::telemetry::prometheus::TagStyle;
use crate::telemetry::stats::Inclusion;

/// What the admin API asks of the program. Sent to the control thread, which acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `/quitquitquit`: leave now, gracefully.
    Quit,
    /// `/drain_listeners`, and `/drain` of port 15020.
    Drain {
        /// `?inboundonly`.
        inbound_only: bool,
        /// `?graceful`.
        graceful: bool,
    },
}

/// Where the ports are and what stands behind them. A port that is `None` is not opened.
#[derive(Debug)]
pub struct Options {
    /// Admin API: `admin.address` of the bootstrap. In agent mode it has to be loopback.
    pub admin: Option<SocketAddr>,
    /// Agent mode: the strict checks, Istio's names of labels and its list of shown statistics.
    pub agent: bool,
    /// Readiness, `0.0.0.0:15021`.
    pub readiness: Option<SocketAddr>,
    /// Proxy metrics, `0.0.0.0:15090`.
    pub metrics: Option<SocketAddr>,
    /// Merged metrics and health, `0.0.0.0:15020`.
    pub status: Option<SocketAddr>,
    /// `ISTIO_PROMETHEUS_ANNOTATIONS`: where the application's own metrics are.
    pub app_metrics: Option<AppMetrics>,
    /// `ISTIO_KUBE_APP_PROBERS`: what to ask the application on the kubelet's behalf.
    pub app_probes: AppProbes,
    /// Commands go here.
    pub commands: UnboundedSender<Command>,
    /// Changes the log level (`/logging`); `None` when nothing can be changed.
    pub log: Option<LogControl>,
    /// For `/server_info`.
    pub command_line: CommandLine,
}

/// Flags of the program, for `/server_info`.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    /// `-c`.
    pub config_path: Option<PathBuf>,
    /// `--concurrency`.
    pub concurrency: u32,
    /// `-l`.
    pub log_level: String,
    /// `--drain-time-s`.
    pub drain_time_s: u64,
}

/// The application's own metrics endpoint (`prometheus.io/*` annotations).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppMetrics {
    /// `port`.
    pub port: u16,
    /// `path`, default `/metrics`.
    pub path: String,
}

/// Ports that were opened (port 0 resolved).
#[derive(Debug, Clone, Copy, Default)]
pub struct Bound {
    /// Admin API.
    pub admin: Option<SocketAddr>,
    /// Readiness.
    pub readiness: Option<SocketAddr>,
    /// Proxy metrics.
    pub metrics: Option<SocketAddr>,
    /// Merged metrics and health.
    pub status: Option<SocketAddr>,
}

/// What the handlers share.
#[derive(Debug)]
struct State {
    shared: Arc<Shared>,
    options: Options,
    style: TagStyle,
    /// `/healthcheck/fail`.
    told_to_fail: AtomicBool,
    scrapes: scrape::Counters,
}

/// Which port a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Admin,
    Readiness,
    Metrics,
    Status,
}

/// How often statistics of clusters and listeners that are gone are forgotten.
const SWEEP: Duration = Duration::from_secs(300);

/// Opens the ports and serves them by tasks on the current runtime (the control thread's) until it ends.
///
/// # Errors
/// When a port cannot be opened, or the admin address is not loopback in agent mode; the message names it.
pub async fn start(shared: Arc<Shared>, options: Options) -> anyhow::Result<Bound> {
    if let Some(address) = options.admin
        && options.agent
        && !address.ip().is_loopback()
    {
        anyhow::bail!(
            "admin.address {address}: the admin API of a sidecar can stop and reconfigure it, so it has to be on a \
             loopback address such as 127.0.0.1:15000"
        );
    }
    let style = if options.agent {
        TagStyle::Istio
    } else {
        TagStyle::Envoy
    };
    let bootstrap = shared.resources.bootstrap();
    let stats_config = bootstrap.and_then(|bytes| Bootstrap::decode(&*bytes).ok()?.stats_config);
    let chosen = match &stats_config {
        Some(config) => Inclusion::from_config(config).map_err(anyhow::Error::msg)?,
        None => None,
    };
    if let Some(inclusion) = chosen.or_else(|| options.agent.then(Inclusion::istio_default)) {
        shared.stats.set_inclusion(inclusion);
    }
    if let Some(config) = stats_config.filter(|c| !c.stats_tags.is_empty() || !c.histogram_bucket_settings.is_empty()) {
        tracing::warn!(
            stats_tags = config.stats_tags.len(),
            histogram_bucket_settings = config.histogram_bucket_settings.len(),
            "stats_config: tags and buckets of one's own are not implemented; the built-in ones are used"
        );
    }
    let ports = [
        (Port::Admin, options.admin),
        (Port::Readiness, options.readiness),
        (Port::Metrics, options.metrics),
        (Port::Status, options.status),
    ];
    let state = Arc::new(State {
        scrapes: scrape::Counters::default(),
        shared,
        options,
        style,
        told_to_fail: AtomicBool::new(false),
    });
    // All of them or none: a sidecar that is half there is harder to find than one that says why it does not start.
    let mut open = Vec::new();
    let mut bound = Bound::default();
    for (port, address) in ports {
        let Some(address) = address else { continue };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("{port:?} port: cannot listen on {address}"))?;
        let local = listener.local_addr()?;
        *bound.of(port) = Some(local);
        open.push((port, listener));
    }
    for (port, listener) in open {
        tokio::spawn(server::serve(port, listener, Arc::clone(&state)));
    }
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            state.shared.stats.sweep();
        }
    });
    Ok(bound)
}

impl Bound {
    fn of(&mut self, port: Port) -> &mut Option<SocketAddr> {
        match port {
            Port::Admin => &mut self.admin,
            Port::Readiness => &mut self.readiness,
            Port::Metrics => &mut self.metrics,
            Port::Status => &mut self.status,
        }
    }
}

#[cfg(test)]
mod tests;
