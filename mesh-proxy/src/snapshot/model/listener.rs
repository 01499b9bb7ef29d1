//! Listeners, filter chains and network filters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{HeaderMutation, LocalRateLimit, RouteTable, ServerTls};
use crate::telemetry::ResponseFlags;
pub use crate::telemetry::access_log::LogFormat;
use crate::telemetry::access_log::Sink;

/// `envoy.config.listener.v3.Listener`.
#[derive(Debug)]
pub struct Listener {
    /// Name, unique.
    pub name: Arc<str>,
    /// First address, then `additional_addresses`.
    pub addresses: Vec<SocketAddr>,
    /// False for listeners that only take connections handed over by a `use_original_dst` listener.
    pub bind_to_port: bool,
    /// Hand a connection over to the listener of its original destination (`ip:port`, else `0.0.0.0:port`), if any.
    pub use_original_dst: bool,
    /// `IP_TRANSPARENT` (TPROXY).
    pub transparent: bool,
    /// Side of the application.
    pub direction: Direction,
    /// What to look at before a filter chain is chosen.
    pub inspectors: Inspectors,
    /// Chains in the order of configuration; matched as Envoy orders them (see [`ChainMatch`]).
    pub chains: Vec<Arc<FilterChain>>,
    /// Used when no chain matches.
    pub default_chain: Option<Arc<FilterChain>>,
    /// Per-connection access logs.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `listener.<stat_prefix>.` of statistics: the address, with `_` for `:`; or `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// `per_connection_buffer_limit_bytes`, 1 MiB by default.
    pub buffer_limit: usize,
}

/// `traffic_direction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Not said.
    Unspecified,
    /// Towards the application of this pod.
    Inbound,
    /// From it.
    Outbound,
}

/// Listener filters.
#[derive(Debug, Default)]
pub struct Inspectors {
    /// `envoy.filters.listener.original_dst`, or `use_original_dst`.
    pub original_dst: bool,
    /// `envoy.filters.listener.tls_inspector` and where it is off.
    pub tls: Option<PortPredicate>,
    /// `envoy.filters.listener.http_inspector` and where it is off.
    pub http: Option<PortPredicate>,
    /// `envoy.filters.listener.proxy_protocol`.
    pub proxy_protocol: bool,
    /// `listener_filters_timeout`: default 15 s, `None` when 0 (no limit).
    pub timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`.
    pub continue_on_timeout: bool,
}

/// `filter_disabled` of a listener filter, for destination ports: the filter is off when the port is in `off`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PortPredicate {
    /// Inclusive ranges of ports where the filter does not run.
    pub off: Vec<(u16, u16)>,
}

impl PortPredicate {
    /// Whether the filter runs for connections to this port.
    pub fn runs_for(&self, port: u16) -> bool {
        !self.off.iter().any(|(from, to)| (*from..=*to).contains(&port))
    }
}

/// `envoy.config.listener.v3.FilterChain`.
#[derive(Debug)]
pub struct FilterChain {
    /// Name, may be empty.
    pub name: Arc<str>,
    /// When this chain is chosen.
    pub matches: ChainMatch,
    /// Termination of TLS; `None` for plaintext and for passthrough.
    pub tls: Option<Arc<ServerTls>>,
    /// `transport_socket_connect_timeout`.
    pub handshake_timeout: Option<Duration>,
    /// Network filters before the last one, in order.
    pub filters: Vec<NetworkFilter>,
    /// The last one.
    pub terminal: Terminal,
}

/// `FilterChainMatch`. Envoy chooses by one criterion after the other, the most specific value first: destination port,
/// destination prefix, server names (exact, then longest wildcard), transport protocol, application protocols, direct
/// source prefix, source type, source prefix, source port. A chain that leaves a criterion empty matches when no other chain does.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`.
    pub prefix_ranges: Vec<IpNet>,
    /// `server_names`: lower case, `*.` wildcards.
    pub server_names: Vec<String>,
    /// `transport_protocol`: `tls`, `raw_buffer`, or empty.
    pub transport_protocol: String,
    /// `application_protocols`: ALPN as offered by the client, or `http/1.0`, `http/1.1`, `h2c` as detected.
    pub application_protocols: Vec<String>,
    /// `direct_source_prefix_ranges`.
    pub direct_source_prefix_ranges: Vec<IpNet>,
    /// `source_prefix_ranges`.
    pub source_prefix_ranges: Vec<IpNet>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
    /// `source_type`.
    pub source_type: SourceType,
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Any.
    #[default]
    Any,
    /// From the same host: loopback, or source equal to destination.
    SameIpOrLoopback,
    /// From elsewhere.
    External,
}

/// Network filters that stand before the last one.
#[derive(Debug)]
pub enum NetworkFilter {
    /// `istio.metadata_exchange` of TCP: peers that agreed on ALPN `istio-peer-exchange` send each other their metadata
    /// in front of the application's bytes.
    PeerExchange,
    /// `istio.stats`: Istio's standard TCP metrics.
    IstioStats,
    /// `envoy.filters.network.sni_dynamic_forward_proxy`: looks up the server name, in the cache of this name, to go to this
    /// port of it.
    SniForward(Arc<str>, u16),
}

/// The last network filter.
#[derive(Debug, Clone)]
pub enum Terminal {
    /// `envoy.filters.network.http_connection_manager`.
    Http(Arc<HttpConnectionManager>),
    /// `envoy.filters.network.tcp_proxy`.
    Tcp(Arc<TcpProxy>),
    /// No filter: Envoy closes such connections at once.
    Close,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Debug)]
pub struct TcpProxy {
    /// `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// Clusters with their weights; one for `cluster`.
    pub clusters: Vec<(Arc<str>, u32)>,
    /// `idle_timeout`: default 1 h, `None` when 0.
    pub idle_timeout: Option<Duration>,
    /// `hash_policy` with `source_ip`, for clusters with consistent hashing.
    pub hash_source_ip: bool,
    /// `tunneling_config.hostname`: `name:port` to ask a proxy on the way for.
    pub tunnel: Option<Arc<str>>,
    /// `max_connect_attempts`, default 1.
    pub max_connect_attempts: u32,
    /// `access_log`.
    pub access_logs: Vec<Arc<AccessLog>>,
}

/// `HttpConnectionManager`.
#[derive(Debug)]
pub struct HttpConnectionManager {
    /// `stat_prefix` as configured (Istio's ends in `;`).
    pub stat_prefix: Arc<str>,
    /// `codec_type`.
    pub codec: Codec,
    /// Routes.
    pub routes: RouteSource,
    /// HTTP filters before the router, in order.
    pub filters: Vec<HttpFilter>,
    /// `server_name`, default `envoy`.
    pub server_name: http::HeaderValue,
    /// `server_header_transformation`.
    pub server_header: ServerHeader,
    /// `use_remote_address`: this is an edge, `x-forwarded-for` is appended to and trusted by hops only.
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`.
    pub xff_num_trusted_hops: u32,
    /// `generate_request_id`, default true.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`.
    pub preserve_external_request_id: bool,
    /// `normalize_path`.
    pub normalize_path: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    /// `forward_client_cert_details`.
    pub xfcc: ForwardClientCert,
    /// `upgrade_configs` that are on: lower-case tokens, such as `websocket`, `connect`.
    pub upgrades: Vec<String>,
    /// `stream_idle_timeout`: default 5 min, `None` when 0.
    pub stream_idle_timeout: Option<Duration>,
    /// `request_timeout`, `None` when 0 (the default).
    pub request_timeout: Option<Duration>,
    /// `request_headers_timeout`.
    pub request_headers_timeout: Option<Duration>,
    /// `common_http_protocol_options.idle_timeout`: default 1 h, `None` when 0.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `max_request_headers_kb`, default 60.
    pub max_request_headers_kb: u32,
    /// `http_protocol_options.accept_http_10`. Ferromesh takes HTTP/1.0 in any case.
    pub accept_http_10: bool,
    /// `drain_timeout`, default 5 s.
    pub drain_timeout: Duration,
    /// `http2_protocol_options`.
    pub http2: Http2Options,
    /// `access_log`.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `strip_any_host_port`, `strip_matching_host_port`.
    pub strip_port: StripPort,
}

/// Which ports are taken off the host, for routes and for the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StripPort {
    /// None.
    No,
    /// The one that the connection was for (`strip_matching_host_port`).
    Matching,
    /// Any (`strip_any_host_port`).
    Any,
}

/// Where an HTTP connection manager finds its routes.
#[derive(Debug, Clone)]
pub enum RouteSource {
    /// `route_config`.
    Inline(Arc<RouteTable>),
    /// `rds.route_config_name`: looked up in the snapshot of the request.
    Rds(Arc<str>),
}

/// `codec_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// By ALPN, else by the HTTP/2 preface.
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// `server_header_transformation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerHeader {
    /// Always ours.
    Overwrite,
    /// Ours when the upstream sent none.
    AppendIfAbsent,
    /// Leave as it is.
    PassThrough,
}

/// `path_with_escaped_slashes_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Leave as they are.
    Keep,
    /// 400.
    Reject,
    /// Unescape, then redirect (307).
    UnescapeAndRedirect,
    /// Unescape and go on.
    UnescapeAndForward,
}

/// `forward_client_cert_details` with `set_current_client_cert_details` (subject, dns, uri as Istio sets them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// Remove the header.
    Sanitize,
    /// Forward on mutual TLS only.
    ForwardOnly,
    /// Append this hop on mutual TLS.
    AppendForward,
    /// Replace by this hop on mutual TLS, else remove.
    SanitizeSet,
    /// Leave as it is.
    AlwaysForwardOnly,
}

/// HTTP/2 limits, either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Options {
    /// `max_concurrent_streams`, default 1024 here (Envoy's is 2^31-1).
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`.
    pub initial_stream_window: u32,
    /// `initial_connection_window_size`.
    pub initial_connection_window: u32,
    /// `connection_keepalive`: interval and timeout of PING frames.
    pub keep_alive: Option<(Duration, Duration)>,
}

impl Default for Http2Options {
    fn default() -> Self {
        // Four streams' worth a connection: one slow reader does not stall its neighbours.
        Http2Options {
            max_concurrent_streams: 1024,
            initial_stream_window: 1 << 20,
            initial_connection_window: 4 << 20,
            keep_alive: None,
        }
    }
}

/// HTTP filters before the router, applied in order.
#[derive(Debug, Clone)]
pub enum HttpFilter {
    /// `istio.metadata_exchange` (peer metadata by headers).
    PeerMetadata,
    /// `istio.stats` (Istio's standard metrics).
    IstioStats,
    /// `istio.alpn`.
    Alpn,
    /// `envoy.filters.http.grpc_stats`.
    GrpcStats,
    /// `envoy.filters.http.cors`: acts by per-route configuration only.
    Cors,
    /// `envoy.filters.http.fault`: acts by per-route configuration only.
    Fault,
    /// `envoy.filters.http.local_ratelimit`, for routes without one of their own.
    LocalRateLimit(Arc<LocalRateLimit>),
    /// `envoy.filters.http.header_mutation`, before what a route says.
    HeaderMutation(Arc<HeaderMutation>),
    /// `envoy.filters.http.dynamic_forward_proxy`: looks up the host of requests, in the cache of this name.
    DynamicForward(Arc<str>),
}

/// `envoy.access_loggers.file` or `stdout`.
#[derive(Debug)]
pub struct AccessLog {
    /// Path of the file; `/dev/stdout` too.
    pub path: Arc<str>,
    /// How lines look.
    pub format: LogFormat,
    /// Only requests with one of these response flags (Istio's `NR` listener log); empty for all.
    pub only_flags: ResponseFlags,
    /// Where lines go.
    pub sink: Sink,
}

impl AccessLog {
    /// A log to a file. Logs of one path share its writer.
    pub fn new(path: &str, format: LogFormat, only_flags: ResponseFlags) -> Self {
        AccessLog {
            path: path.into(),
            format,
            only_flags,
            sink: Sink::open(path),
        }
    }
}
