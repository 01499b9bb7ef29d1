//! DestinationRule: how connections to a host behave, and its subsets.

use std::collections::BTreeMap;

use super::{
    Duration, PortSelector, WorkloadSelector,
    message::{message, names},
};

message! {
    /// Policies for traffic to a host, after routing.
    pub struct DestinationRule {
        /// Service that the rule is for; `*.` wildcards allowed.
        #[schemars(extend("x-required" = true))]
        pub host: String,
        /// Policy for all ports.
        pub traffic_policy: Option<TrafficPolicy>,
        /// Named groups of endpoints.
        pub subsets: Vec<Subset>,
        /// Namespaces that see the rule.
        pub export_to: Vec<String>,
        /// Client workloads that the rule is for; all of the namespace if absent.
        pub workload_selector: Option<WorkloadSelector>,
    }

    /// A named group of endpoints.
    pub struct Subset {
        /// Name, part of the cluster's name.
        #[schemars(extend("x-required" = true))]
        pub name: String,
        /// Labels that its endpoints have.
        pub labels: BTreeMap<String, String>,
        /// Policy, laid over that of the rule.
        pub traffic_policy: Option<TrafficPolicy>,
    }

    /// How connections to a host behave.
    pub struct TrafficPolicy {
        /// Choice of the endpoint.
        pub load_balancer: Option<LoadBalancerSettings>,
        /// Limits of connections and requests.
        pub connection_pool: Option<ConnectionPoolSettings>,
        /// Ejection of endpoints that fail.
        pub outlier_detection: Option<OutlierDetection>,
        /// TLS towards the host.
        pub tls: Option<ClientTlsSettings>,
        /// Policies for single ports; each sub-object replaces the one above as a whole.
        #[schemars(length(max = 4096))]
        pub port_level_settings: Vec<PortTrafficPolicy>,
        /// Tunnel TCP through HTTP CONNECT.
        pub tunnel: Option<TunnelSettings>,
        /// Send the PROXY header.
        pub proxy_protocol: Option<ProxyProtocol>,
        /// Limit of concurrent retries.
        pub retry_budget: Option<RetryBudget>,
    }

    /// Policy for one port.
    pub struct PortTrafficPolicy {
        /// Port of the service.
        pub port: Option<PortSelector>,
        /// Choice of the endpoint.
        pub load_balancer: Option<LoadBalancerSettings>,
        /// Limits of connections and requests.
        pub connection_pool: Option<ConnectionPoolSettings>,
        /// Ejection of endpoints that fail.
        pub outlier_detection: Option<OutlierDetection>,
        /// TLS towards the host.
        pub tls: Option<ClientTlsSettings>,
    }

    /// A tunnel through HTTP.
    pub struct TunnelSettings {
        /// `CONNECT` (also if empty) or `POST`.
        pub protocol: String,
        /// Name or address at the far end.
        #[schemars(extend("x-required" = true))]
        pub target_host: String,
        /// Port at the far end.
        #[schemars(extend("x-required" = true))]
        pub target_port: u32,
    }

    /// The PROXY header.
    pub struct ProxyProtocol {
        /// Its version.
        pub version: ProxyProtocolVersion,
    }

    /// Limit of concurrent retries.
    pub struct RetryBudget {
        /// Share of active requests; 20 if absent.
        #[schemars(range(min = 0.0, max = 100.0))]
        pub percent: Option<f64>,
        /// Retries that are always allowed; 3 if 0.
        pub min_retry_concurrency: u32,
        /// Window; only active requests count if absent.
        pub budget_interval: Option<Duration>,
    }

    /// Choice of the endpoint: one of `simple`, `consistentHash` and `backendUtilization`.
    pub struct LoadBalancerSettings {
        /// Algorithm without parameters.
        pub simple: Option<SimpleLb>,
        /// By hash of something in the request.
        pub consistent_hash: Option<ConsistentHashLb>,
        /// By the load that endpoints report.
        pub backend_utilization: Option<BackendUtilizationLb>,
        /// Preference for near endpoints.
        pub locality_lb_setting: Option<LocalityLbSetting>,
        /// Zone-aware routing.
        pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
        /// Slow start of new endpoints.
        pub warmup: Option<Warmup>,
        /// Deprecated window of the slow start.
        pub warmup_duration_secs: Option<Duration>,
    }

    /// Choice by hash: one key, and one algorithm (ring hash if none is named).
    pub struct ConsistentHashLb {
        /// Key: this header.
        pub http_header_name: Option<String>,
        /// Key: this cookie.
        pub http_cookie: Option<HttpCookie>,
        /// Key: the address of the client.
        pub use_source_ip: Option<bool>,
        /// Key: this query parameter.
        pub http_query_parameter_name: Option<String>,
        /// Ring hash.
        pub ring_hash: Option<RingHash>,
        /// Maglev.
        pub maglev: Option<Maglev>,
        /// Deprecated size of the ring.
        pub minimum_ring_size: Option<u64>,
    }

    /// A cookie as hash key.
    pub struct HttpCookie {
        /// Name.
        #[schemars(extend("x-required" = true))]
        pub name: String,
        /// Path.
        pub path: String,
        /// Lifetime; with it the cookie is made if it is missing, `0s` for the session.
        pub ttl: Option<Duration>,
        /// Further attributes of the cookie.
        pub attributes: Vec<CookieAttribute>,
    }

    /// An attribute of a cookie.
    pub struct CookieAttribute {
        /// Name.
        #[schemars(extend("x-required" = true))]
        pub name: String,
        /// Value.
        pub value: String,
    }

    /// Options of ring hash.
    pub struct RingHash {
        /// Least number of entries; 1024 if 0.
        pub minimum_ring_size: u64,
    }

    /// Options of Maglev.
    pub struct Maglev {
        /// Size of the table, a prime; 65537 if 0.
        pub table_size: u64,
    }

    /// Weights from the load that endpoints report.
    pub struct BackendUtilizationLb {
        /// Pause before reports are used.
        pub weight_stabilization_period: Option<Duration>,
        /// Reports older than this are dropped.
        pub weight_expiration_period: Option<Duration>,
        /// How often weights are made anew.
        pub weight_update_period: Option<Duration>,
        /// How much errors count.
        pub error_utilization_penalty_percent: Option<u32>,
        /// Reports that are read.
        pub metric_names_for_computing_utilization: Vec<String>,
    }

    /// Preference for near endpoints: one of `distribute`, `failover` and `failoverPriority`.
    pub struct LocalityLbSetting {
        /// Shares of localities.
        pub distribute: Vec<LocalityDistribute>,
        /// Regions that stand in for each other.
        pub failover: Vec<LocalityFailover>,
        /// Labels that rank endpoints by how many of them they share with the client.
        pub failover_priority: Vec<String>,
        /// In place of the mesh's own setting.
        pub enabled: Option<bool>,
    }

    /// Shares of traffic from one locality.
    pub struct LocalityDistribute {
        /// `region/zone/subzone`, `*` at the end allowed.
        pub from: String,
        /// Locality to percent; the sum is 100.
        pub to: BTreeMap<String, u32>,
    }

    /// One region that stands in for another.
    pub struct LocalityFailover {
        /// Region that failed.
        pub from: String,
        /// Region that takes over.
        pub to: String,
    }

    /// Zone-aware routing.
    pub struct ZoneAwareLbSetting {
        /// True if absent.
        pub enabled: Option<bool>,
        /// Least number of endpoints; 6 if absent.
        #[schemars(range(min = 1))]
        pub min_cluster_size: Option<u32>,
        /// Regions that stand in for each other.
        pub failover: Vec<LocalityFailover>,
        /// Labels that rank endpoints.
        pub failover_priority: Vec<String>,
    }

    /// Slow start of new endpoints.
    pub struct Warmup {
        /// Window.
        #[schemars(extend("x-required" = true))]
        pub duration: Option<Duration>,
        /// Share at the start; 10 if absent.
        #[schemars(range(min = 0.0, max = 100.0))]
        pub minimum_percent: Option<f64>,
        /// Exponent of the ramp; 1.0 if absent.
        #[schemars(range(min = 1.0))]
        pub aggression: Option<f64>,
    }

    /// Limits of connections and requests.
    pub struct ConnectionPoolSettings {
        /// Of TCP connections, for all protocols.
        pub tcp: Option<TcpSettings>,
        /// Of HTTP.
        pub http: Option<HttpSettings>,
    }

    /// Limits of TCP connections.
    pub struct TcpSettings {
        /// Most connections; no limit if 0.
        pub max_connections: i32,
        /// 10 s if absent.
        pub connect_timeout: Option<Duration>,
        /// Keepalive of the sockets.
        pub tcp_keepalive: Option<TcpKeepalive>,
        /// Longest life of a connection.
        pub max_connection_duration: Option<Duration>,
        /// 1 h if absent, none if `0s`.
        pub idle_timeout: Option<Duration>,
    }

    /// Keepalive of a socket; the system's values where absent.
    pub struct TcpKeepalive {
        /// Probes without an answer before the connection is given up.
        pub probes: u32,
        /// Idle time before the first probe.
        pub time: Option<Duration>,
        /// Time between probes.
        pub interval: Option<Duration>,
    }

    /// Limits of HTTP.
    pub struct HttpSettings {
        /// Most requests that wait for a connection; no limit if 0.
        pub http1_max_pending_requests: i32,
        /// Most active requests; no limit if 0.
        pub http2_max_requests: i32,
        /// Most requests on one connection; no limit if 0, no keep-alive if 1.
        pub max_requests_per_connection: i32,
        /// Most retries at a time; no limit if 0.
        pub max_retries: i32,
        /// 1 h if absent.
        pub idle_timeout: Option<Duration>,
        /// Whether HTTP/1.1 goes on as HTTP/2.
        pub h2_upgrade_policy: H2UpgradePolicy,
        /// Speak the client's protocol to the host.
        pub use_client_protocol: bool,
        /// Most streams on one HTTP/2 connection; 2^31-1 if 0.
        pub max_concurrent_streams: i32,
        /// HTTP/2 PING.
        #[serde(rename = "http2KeepAlive")]
        pub http2_keepalive: Option<Http2KeepAlive>,
    }

    /// HTTP/2 PING.
    pub struct Http2KeepAlive {
        /// Time between two.
        pub interval: Option<Duration>,
        /// Time for the answer.
        pub timeout: Option<Duration>,
    }

    /// Ejection of endpoints that fail.
    pub struct OutlierDetection {
        /// 5xx in a row; 5 if absent, off if 0.
        #[serde(rename = "consecutive5xxErrors")]
        pub consecutive_5xx_errors: Option<u32>,
        /// 502, 503, 504 in a row; off if absent.
        pub consecutive_gateway_errors: Option<u32>,
        /// Deprecated; not read by Istio any more.
        pub consecutive_errors: i32,
        /// Count errors of this side apart.
        pub split_external_local_origin_errors: bool,
        /// Errors of this side in a row; 5 if absent.
        pub consecutive_local_origin_failures: Option<u32>,
        /// Time between sweeps; 10 s if absent.
        pub interval: Option<Duration>,
        /// First ejection; 30 s if absent.
        pub base_ejection_time: Option<Duration>,
        /// Most ejected endpoints; 10 if 0.
        pub max_ejection_percent: i32,
        /// Ejections stop below this share of healthy endpoints; 0 if absent.
        pub min_health_percent: i32,
        /// Status codes that count as errors.
        pub outlier_detection_http_error_codes: Vec<u32>,
    }

    /// TLS towards a host.
    pub struct ClientTlsSettings {
        /// What is spoken.
        pub mode: ClientTlsMode,
        /// File of the client certificate (MUTUAL).
        pub client_certificate: String,
        /// File of its key (MUTUAL).
        pub private_key: String,
        /// File of the roots; those of the system if empty.
        pub ca_certificates: String,
        /// File of the revocation list.
        pub ca_crl: String,
        /// Secret with certificate, key, roots.
        pub credential_name: String,
        /// Names that the server may have.
        pub subject_alt_names: Vec<String>,
        /// Server name that is sent; that of the host if empty.
        pub sni: String,
        /// Do not check the server's certificate.
        pub insecure_skip_verify: Option<bool>,
    }
}

names! {
    /// Version of the PROXY header.
    pub enum ProxyProtocolVersion {
        /// Text.
        V1 = "V1",
        /// Binary.
        V2 = "V2",
    }

    /// Algorithms without parameters.
    pub enum SimpleLb {
        /// The mesh's default, LEAST_REQUEST.
        Unspecified = "UNSPECIFIED",
        /// Deprecated name of LEAST_REQUEST.
        LeastConn = "LEAST_CONN",
        /// Any endpoint.
        Random = "RANDOM",
        /// The address that the client asked for.
        Passthrough = "PASSTHROUGH",
        /// In turn.
        RoundRobin = "ROUND_ROBIN",
        /// The less busy of two.
        LeastRequest = "LEAST_REQUEST",
    }

    /// Whether HTTP/1.1 goes on as HTTP/2.
    pub enum H2UpgradePolicy {
        /// As the mesh has it.
        Default = "DEFAULT",
        /// Never.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Always.
        Upgrade = "UPGRADE",
    }

    /// TLS towards a host.
    pub enum ClientTlsMode {
        /// Plaintext.
        Disable = "DISABLE",
        /// TLS without a client certificate.
        Simple = "SIMPLE",
        /// TLS with the client certificate named here.
        Mutual = "MUTUAL",
        /// TLS with the mesh's own certificate.
        IstioMutual = "ISTIO_MUTUAL",
    }
}
