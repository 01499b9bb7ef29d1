//! What is known of one opaque TCP connection, and what is made of it: Istio's metrics, access logs.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::flags::ResponseFlags;
use super::peer::Peer;
use super::{WorkerTelemetry, access_log, istio};
use crate::listener::ConnInfo;
use crate::snapshot::{AccessLog, Cluster, Endpoint, NetworkFilter};

/// How often a long connection's bytes are reported (Istio's `tcp_reporting_duration`).
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// One connection. Make it with [`TcpRecord::new`], fill what becomes known, then [`opened`], any number of
/// [`progress`], and [`closed`].
#[derive(Debug, Clone)]
pub struct TcpRecord {
    /// When it was accepted.
    pub start: Instant,
    /// The same by the wall clock.
    pub start_time: SystemTime,
    /// Flags.
    pub flags: ResponseFlags,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub termination_details: Option<Cow<'static, str>>,
    /// Bytes from the caller, so far.
    pub bytes_received: u64,
    /// Bytes to the caller, so far.
    pub bytes_sent: u64,
    /// Name of the cluster, also when there is no such cluster.
    pub cluster_name: Option<Arc<str>>,
    /// Cluster.
    pub cluster: Option<Arc<Cluster>>,
    /// Endpoint.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Address that was connected to.
    pub upstream_host: Option<SocketAddr>,
    /// Our address towards it.
    pub upstream_local: Option<SocketAddr>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub upstream_failure: Option<Arc<str>>,
    /// SPIFFE URI of the upstream's certificate.
    pub upstream_principal: Option<Arc<str>>,
    /// Metadata of the other side, by the `istio-peer-exchange` prefix.
    pub peer: Option<Arc<Peer>>,
    /// Bytes that the metrics have seen already: received, sent.
    pub(super) reported: (u64, u64),
    /// Handles of Istio's metrics, resolved by [`opened`].
    pub(super) handles: Option<istio::TcpHandles>,
}

impl TcpRecord {
    /// A connection that was accepted just now.
    pub fn new() -> Self {
        TcpRecord {
            start: Instant::now(),
            start_time: SystemTime::now(),
            flags: ResponseFlags::NONE,
            termination_details: None,
            bytes_received: 0,
            bytes_sent: 0,
            cluster_name: None,
            cluster: None,
            endpoint: None,
            upstream_host: None,
            upstream_local: None,
            upstream_failure: None,
            upstream_principal: None,
            peer: None,
            reported: (0, 0),
            handles: None,
        }
    }
}

impl Default for TcpRecord {
    fn default() -> Self {
        Self::new()
    }
}

/// Around a connection.
#[derive(Debug, Clone, Copy)]
pub struct TcpContext<'a> {
    /// The connection.
    pub conn: &'a ConnInfo,
    /// Access logs to write when it closes (the TCP proxy's; the listener's go through [`log_connection`]).
    pub access_logs: &'a [Arc<AccessLog>],
    /// Telemetry of this worker.
    pub telemetry: &'a WorkerTelemetry,
}

/// The upstream is connected (or will never be) and the peer's metadata is as known as it gets.
pub fn opened(record: &mut TcpRecord, ctx: &TcpContext<'_>) {
    let has_stats = |f: &NetworkFilter| matches!(f, NetworkFilter::IstioStats);
    if ctx.conn.chain.filters.iter().any(has_stats) {
        record.handles = istio::tcp_opened(record, ctx);
    }
}

/// Reports bytes since the last report; call every [`REPORT_INTERVAL`] after bringing the totals up to date.
pub fn progress(record: &mut TcpRecord) {
    if let Some(handles) = &record.handles {
        let (received, sent) = record.reported;
        handles.bytes(
            record.bytes_received.saturating_sub(received),
            record.bytes_sent.saturating_sub(sent),
        );
        record.reported = (record.bytes_received, record.bytes_sent);
    }
}

/// Closes the books on one connection. Call exactly once; also without [`opened`], when it never came to that.
pub fn closed(record: &mut TcpRecord, ctx: &TcpContext<'_>) {
    progress(record);
    if let Some(handles) = &record.handles {
        handles.closed();
    }
    for log in ctx.access_logs {
        access_log::log_connection(log, record, ctx.conn);
    }
}

/// Writes the listener's access logs for a connection that found no filter chain or failed before its filters.
pub fn log_connection(record: &TcpRecord, conn: &ConnInfo) {
    for log in &conn.listener.access_logs {
        access_log::log_connection(log, record, conn);
    }
}
