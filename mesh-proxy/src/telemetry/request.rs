//! What is known of one HTTP request when it has ended, and what is made of it: Istio's metrics, access logs.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::flags::ResponseFlags;
use super::peer::Peer;
use super::stats::HttpStats;
use super::{WorkerTelemetry, access_log, istio};
use crate::listener::ConnInfo;
use crate::snapshot::{Cluster, Direction, Endpoint, HttpConnectionManager, HttpFilter, Route};

/// One request. Filled along the way by the connection manager and the router; all clones are of handles.
///
/// Text that callers control is kept as it came; the access log escapes it.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// When its first byte was seen.
    pub start: Instant,
    /// The same by the wall clock; `None` when there is no access log.
    pub start_time: Option<SystemTime>,
    /// When the request was read wholly.
    pub request_done: Option<Instant>,
    /// When the first byte of the response was sent.
    pub response_start: Option<Instant>,
    /// When it ended; `None` means at the time of [`finish`].
    pub end: Option<Instant>,
    /// Side of the application: outbound reports as `source`, inbound as `destination`.
    pub direction: Direction,
    /// Method.
    pub method: Method,
    /// Target as it was sent upstream (after rewrites); kept only for access logs.
    pub uri: Uri,
    /// Path as it came, when a rewrite changed it (`x-envoy-original-path`).
    pub original_path: Option<HeaderValue>,
    /// `:authority` or `host`.
    pub authority: Option<HeaderValue>,
    /// `:scheme`.
    pub scheme: &'static str,
    /// Version of the downstream connection.
    pub version: Version,
    /// `content-type: application/grpc…`.
    pub grpc: bool,
    /// Status that was sent, 0 when none was.
    pub response_code: u16,
    /// Flags.
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`: `via_upstream`, `route_not_found`, …
    pub details: Cow<'static, str>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub termination_details: Option<Cow<'static, str>>,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// Bytes of the request's header, about as on the wire (see [`header_size`]).
    pub request_header_bytes: u64,
    /// Bytes of the response's header.
    pub response_header_bytes: u64,
    /// gRPC messages in the request.
    pub request_messages: u64,
    /// gRPC messages in the response.
    pub response_messages: u64,
    /// `grpc-status`.
    pub grpc_status: Option<u16>,
    /// Route that was taken.
    pub route: Option<Arc<Route>>,
    /// Name of the cluster, also when there is no such cluster.
    pub cluster_name: Option<Arc<str>>,
    /// Cluster.
    pub cluster: Option<Arc<Cluster>>,
    /// Endpoint of the last attempt.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Address of the last attempt.
    pub upstream_host: Option<SocketAddr>,
    /// Our address towards it.
    pub upstream_local: Option<SocketAddr>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub upstream_failure: Option<Arc<str>>,
    /// SPIFFE URI of the upstream's certificate.
    pub upstream_principal: Option<Arc<str>>,
    /// Attempts made.
    pub attempts: u32,
    /// `x-request-id`; kept only for access logs.
    pub request_id: Option<HeaderValue>,
    /// Metadata of the other side: the caller's on inbound, the server's on outbound.
    pub peer: Option<Arc<Peer>>,
    /// Request headers, kept only when [`wants_headers`] says so.
    pub request_headers: Option<Box<HeaderMap>>,
    /// Response headers, as above.
    pub response_headers: Option<Box<HeaderMap>>,
    /// Response trailers, as above.
    pub response_trailers: Option<Box<HeaderMap>>,
}

impl RequestRecord {
    /// A request that has just begun.
    pub fn start(direction: Direction, version: Version) -> Self {
        RequestRecord {
            start: Instant::now(),
            start_time: None,
            request_done: None,
            response_start: None,
            end: None,
            direction,
            method: Method::GET,
            uri: Uri::default(),
            original_path: None,
            authority: None,
            scheme: "http",
            version,
            grpc: false,
            response_code: 0,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            termination_details: None,
            bytes_received: 0,
            bytes_sent: 0,
            request_header_bytes: 0,
            response_header_bytes: 0,
            request_messages: 0,
            response_messages: 0,
            grpc_status: None,
            route: None,
            cluster_name: None,
            cluster: None,
            endpoint: None,
            upstream_host: None,
            upstream_local: None,
            upstream_failure: None,
            upstream_principal: None,
            attempts: 0,
            request_id: None,
            peer: None,
            request_headers: None,
            response_headers: None,
            response_trailers: None,
        }
    }
}

/// Around a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// Its connection.
    pub conn: &'a ConnInfo,
    /// Its connection manager.
    pub manager: &'a HttpConnectionManager,
    /// Statistics of the connection manager.
    pub stats: &'a HttpStats,
    /// Telemetry of this worker.
    pub telemetry: &'a WorkerTelemetry,
}

/// Whether some access log of this manager may print headers; if not, keep none.
pub fn wants_headers(manager: &HttpConnectionManager) -> bool {
    manager.access_logs.iter().any(|log| log.format.wants_headers())
}

/// Bytes that headers take on an HTTP/1 connection: `name: value\r\n` each.
pub fn header_size(headers: &HeaderMap) -> u64 {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>() as u64
}

/// Closes the books on one request. Call exactly once, when the response (or the failure) is through.
pub fn finish(record: &RequestRecord, ctx: &RequestContext<'_>) {
    let has_stats = |f: &HttpFilter| matches!(f, HttpFilter::IstioStats);
    if ctx.manager.filters.iter().any(has_stats) {
        istio::request(record, ctx);
    }
    let took = record
        .end
        .unwrap_or_else(Instant::now)
        .saturating_duration_since(record.start);
    let took_ms = took.as_secs_f64() * 1000.0;
    ctx.stats.downstream_rq_time.record(took_ms);
    if let Some(cluster) = &record.cluster
        && record.upstream_host.is_some()
        && record.response_code != 0
    {
        cluster.stats.upstream_rq_time.record(took_ms);
    }
    for log in &ctx.manager.access_logs {
        access_log::log_request(log, record, ctx.conn);
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
