//! Clusters and endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    ClientTls, HashRule, HealthCheck, HostMonitor, Http2Options, LbIndex, LbRules, LiveIndex, Origin, OutlierDetection,
};
use crate::dns::DnsCache;
use crate::telemetry::stats::ClusterStats;

/// `envoy.config.cluster.v3.Cluster`, with its endpoints.
#[derive(Debug)]
pub struct Cluster {
    /// Name.
    pub name: Arc<str>,
    /// How endpoints are found.
    pub discovery: Discovery,
    /// Load balancing.
    pub lb: LbPolicy,
    /// `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// Protocol towards the endpoints.
    pub http: UpstreamHttp,
    /// Endpoints, priorities ascending; empty unless [`Discovery::lists_endpoints`].
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Tables over `endpoints` by the health that was configured: [`LbIndex::new`].
    pub index: LbIndex,
    /// Tables by the health that was found out since, where there is something to find out.
    pub live: Option<LiveIndex>,
    /// What shapes the tables.
    pub rules: LbRules,
    /// `health_checks[0]`.
    pub health_check: Option<Arc<HealthCheck>>,
    /// `outlier_detection`.
    pub outlier: Option<Arc<OutlierDetection>>,
    /// Transport for endpoints that the cluster does not list (original destination, DNS).
    pub transports: Arc<TransportSockets>,
    /// `circuit_breakers`, priority DEFAULT.
    pub limits: Limits,
    /// `upstream_bind_config.source_address` (127.0.0.6 on the way to the application).
    pub bind: Option<IpAddr>,
    /// `upstream_connection_options.tcp_keepalive`.
    pub keepalive: Option<Keepalive>,
    /// What Istio says of it in metadata.
    pub istio: IstioClusterMeta,
    /// Statistics.
    pub stats: Arc<ClusterStats>,
    /// State that outlives configuration.
    pub state: Arc<ClusterState>,
}

impl Cluster {
    /// Retries that there may be at once, as of now.
    pub fn max_retries(&self) -> u32 {
        self.limits.retries(&self.state)
    }

    /// Where a connection goes if the cluster lists no endpoints: `original`, or the address of the host that is asked for, as
    /// far as it is known. Hosts without a port have `port`.
    pub fn destination(&self, original: SocketAddr, host: Option<&str>, port: u16) -> Option<SocketAddr> {
        match &self.discovery {
            Discovery::Dynamic(cache) => cache.address(host.filter(|h| !h.is_empty())?, port),
            _ => Some(original),
        }
    }

    /// Port of hosts that say none.
    pub fn default_port(&self) -> u16 {
        if self.transports.default.tls().is_some() {
            443
        } else {
            80
        }
    }
}

/// How endpoints are found.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// In the cluster itself.
    Static,
    /// By EDS, under this name.
    Eds(Arc<str>),
    /// Every address of every name is an endpoint.
    StrictDns(DnsOptions),
    /// One connection at a time goes to the name's first address.
    LogicalDns(DnsOptions),
    /// Where the connection was going.
    OriginalDst,
    /// By DNS, of the host that the request is for (`envoy.clusters.dynamic_forward_proxy`).
    Dynamic(Arc<DnsCache>),
}

impl Discovery {
    /// Whether the cluster knows its endpoints; else each connection says where it goes.
    pub fn lists_endpoints(&self) -> bool {
        !matches!(self, Discovery::OriginalDst | Discovery::Dynamic(_))
    }
}

/// DNS settings of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsOptions {
    /// Names with ports, and what their addresses become.
    pub targets: Vec<DnsTarget>,
    /// `dns_refresh_rate`, default 5 s.
    pub refresh: Duration,
    /// `respect_dns_ttl`.
    pub respect_ttl: bool,
    /// `dns_lookup_family`.
    pub family: DnsFamily,
}

/// One name of a DNS cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsTarget {
    /// Host name (or an address, which needs no look-up).
    pub host: String,
    /// Port.
    pub port: u16,
    /// Weight of each address.
    pub weight: u32,
    /// Priority of each address.
    pub priority: u32,
}

/// `dns_lookup_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6 if there is any, else IPv4.
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4 if there is any, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// `lb_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LbPolicy {
    /// `ROUND_ROBIN`, weighted.
    RoundRobin,
    /// `LEAST_REQUEST`: best of this many random picks.
    LeastRequest(u32),
    /// `RANDOM`.
    Random,
    /// `RING_HASH` and `MAGLEV`: by the hash of the request.
    Hash(HashRule),
    /// `CLUSTER_PROVIDED`.
    ClusterProvided,
}

/// `typed_extension_protocol_options` `HttpProtocolOptions`.
#[derive(Debug, Clone)]
pub struct UpstreamHttp {
    /// Which version.
    pub version: UpstreamVersion,
    /// Limits of HTTP/2.
    pub http2: Http2Options,
    /// `common_http_protocol_options.idle_timeout`: default 1 h, `None` when 0.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`, 0 for no limit.
    pub max_requests_per_connection: u32,
    /// `common_http_protocol_options.max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `upstream_http_protocol_options.auto_sni`.
    pub auto_sni: bool,
    /// `upstream_http_protocol_options.auto_san_validation`.
    pub auto_san_validation: bool,
}

/// HTTP version towards the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// As the caller's (`use_downstream_protocol_config`).
    Downstream,
    /// By ALPN (`auto_config`).
    Alpn,
}

/// `CircuitBreakers.Thresholds`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// `max_connections`, default 1024.
    pub max_connections: u32,
    /// `max_pending_requests`, default 1024.
    pub max_pending_requests: u32,
    /// `max_requests`, default 1024.
    pub max_requests: u32,
    /// `max_retries`, default 3.
    pub max_retries: u32,
    /// `retry_budget`, in place of `max_retries`: `budget_percent` (default 20) of the requests that are active or pending,
    /// and at least `min_retry_concurrency` (default 3).
    pub retry_budget: Option<(f64, u32)>,
    /// `track_remaining`: statistics tell how much is left.
    pub track_remaining: bool,
}

impl Limits {
    /// Retries that there may be at once, as of now.
    pub fn retries(&self, state: &ClusterState) -> u32 {
        let Some((percent, least)) = self.retry_budget else {
            return self.max_retries;
        };
        let requests = state.requests.load(Relaxed).saturating_add(state.pending.load(Relaxed));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let share = (percent / 100.0 * f64::from(requests)) as u32;
        share.max(least)
    }
}

/// `TcpKeepalive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keepalive {
    /// Probes without answer before the connection is given up.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// Transport sockets of a cluster.
#[derive(Debug, Default)]
pub struct TransportSockets {
    /// `transport_socket_matches`, in order: metadata under `envoy.transport_socket_match` that must be equal.
    pub matches: Vec<TransportMatch>,
    /// `transport_socket`, plaintext when absent.
    pub default: Transport,
}

/// One of `transport_socket_matches`.
#[derive(Debug)]
pub struct TransportMatch {
    /// Name, `tlsMode-istio`.
    pub name: Arc<str>,
    /// What the endpoint's metadata must hold; empty matches all.
    pub criteria: Vec<(String, String)>,
    /// The transport.
    pub transport: Transport,
}

/// How bytes travel to an endpoint.
#[derive(Debug, Clone, Default)]
pub enum Transport {
    /// Plaintext.
    #[default]
    Plain,
    /// TLS.
    Tls(Arc<ClientTls>),
    /// A PROXY header first (`ProxyProtocolUpstreamTransport`), then plaintext or TLS.
    Proxied(ProxyVersion, Option<Arc<ClientTls>>),
}

impl Transport {
    /// The TLS context, if bytes are encrypted.
    pub fn tls(&self) -> Option<&Arc<ClientTls>> {
        match self {
            Transport::Plain => None,
            Transport::Tls(tls) => Some(tls),
            Transport::Proxied(_, tls) => tls.as_ref(),
        }
    }

    /// The PROXY header that goes first.
    pub fn proxy_header(&self) -> Option<ProxyVersion> {
        match self {
            Transport::Proxied(version, _) => Some(*version),
            Transport::Plain | Transport::Tls(_) => None,
        }
    }
}

/// `ProxyProtocolConfig.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// Metadata `istio` of a cluster.
#[derive(Debug, Clone, Default)]
pub struct IstioClusterMeta {
    /// `services[0]`: host, name, namespace.
    pub service: Option<IstioService>,
    /// `config`: the DestinationRule behind it.
    pub origin: Origin,
    /// `subset`.
    pub subset: Option<Arc<str>>,
    /// `external`.
    pub external: bool,
    /// `alpn_override: "false"`: `istio.alpn` leaves this cluster alone.
    pub no_alpn_override: bool,
}

/// A service by its three names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IstioService {
    /// `catalog.shop.svc.cluster.local`.
    pub host: Arc<str>,
    /// `catalog`.
    pub name: Arc<str>,
    /// `shop`.
    pub namespace: Arc<str>,
}

/// Counters of a cluster that survive changes of its configuration.
#[derive(Debug, Default)]
pub struct ClusterState {
    /// Position of round robin.
    pub next: AtomicU64,
    /// Connections open.
    pub connections: AtomicU32,
    /// Requests waiting for a connection.
    pub pending: AtomicU32,
    /// Requests in flight.
    pub requests: AtomicU32,
    /// Retries in flight.
    pub retries: AtomicU32,
    /// Grows whenever an endpoint's health changes other than by configuration; 0 as long as none did.
    pub health: AtomicU64,
    /// Held while endpoints are ejected and taken back, which is rare: how many may be ejected depends on how many are.
    pub ejecting: Mutex<()>,
    /// Requests waiting because of `max_connections`.
    pub waiting: AtomicU32,
    /// Told when a connection ends while requests wait for that.
    pub room: Notify,
}

impl ClusterState {
    /// Counts a connection that is gone, and tells one of those who wait for that, on whatever worker.
    pub fn connection_ended(&self) {
        // In one order with `waiting`, so that either this sees who waits, or that one sees the room.
        self.connections.fetch_sub(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.room.notify_one();
        }
    }
}

/// `LbEndpoint`.
#[derive(Debug)]
pub struct Endpoint {
    /// Address.
    pub address: SocketAddr,
    /// Host name, when it was found by DNS or says one.
    pub hostname: Option<Arc<str>>,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// Priority of its locality group.
    pub priority: u32,
    /// `region/zone/subzone`, or empty.
    pub locality: Arc<str>,
    /// `load_balancing_weight` of its locality; 0 when there is none.
    pub locality_weight: u32,
    /// `health_status` of EDS allows traffic.
    pub healthy: bool,
    /// Transport after `transport_socket_matches`.
    pub transport: Transport,
    /// Metadata `istio.workload`: `workload;namespace;canonical-name;canonical-revision;cluster`.
    pub workload: Option<Arc<str>>,
    /// State that outlives configuration.
    pub state: Arc<EndpointState>,
}

impl Endpoint {
    /// Whether it is healthy by all that is known.
    pub fn takes_traffic(&self) -> bool {
        self.healthy && !self.state.ejected.load(Relaxed) && !self.state.unwell.load(Relaxed)
    }
}

/// State of one address, carried over by the builder.
#[derive(Debug, Default)]
pub struct EndpointState {
    /// Requests in flight, the load of least request.
    pub active: AtomicU32,
    /// Requests sent.
    pub total: AtomicU64,
    /// Requests answered without a server error.
    pub success: AtomicU64,
    /// Requests failed.
    pub errors: AtomicU64,
    /// Connections open.
    pub connections: AtomicU32,
    /// Connections opened.
    pub connections_total: AtomicU64,
    /// Connections that failed to open.
    pub connect_failures: AtomicU64,
    /// Ejected by outlier detection.
    pub ejected: AtomicBool,
    /// Unwell by active health checks.
    pub unwell: AtomicBool,
    /// What is found out about it; made when there is something.
    pub monitor: OnceLock<Box<HostMonitor>>,
}
