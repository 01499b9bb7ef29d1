//! Telemetry: metrics, access logs and traces of workloads.

use std::collections::BTreeMap;

use super::{
    Duration, PolicyTargetReference, WorkloadSelector,
    message::{message, names},
};

message! {
    /// What workloads report about their traffic.
    pub struct Telemetry {
        /// Workloads; all of the namespace if absent.
        pub selector: Option<WorkloadSelector>,
        /// Deprecated single form of `targetRefs`.
        pub target_ref: Option<PolicyTargetReference>,
        /// Targets in place of a selector.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Traces.
        pub tracing: Vec<Tracing>,
        /// Metrics.
        pub metrics: Vec<Metrics>,
        /// Access logs.
        pub access_logging: Vec<AccessLogging>,
    }

    /// A rule for traces.
    pub struct Tracing {
        /// Side of the traffic.
        pub r#match: Option<TracingSelector>,
        /// Where spans go.
        pub providers: Vec<ProviderRef>,
        /// Share of requests that are sampled, 0.0 to 100.0.
        #[schemars(range(min = 0.0, max = 100.0))]
        pub random_sampling_percentage: Option<f64>,
        /// No spans from these workloads.
        pub disable_span_reporting: Option<bool>,
        /// No trace headers are added.
        pub disable_context_propagation: Option<bool>,
        /// Tags of the spans.
        pub custom_tags: BTreeMap<String, CustomTag>,
        /// Sample by the request id; true if absent.
        pub use_request_id_for_trace_sampling: Option<bool>,
        /// Add the `istio.*` tags; true if absent.
        pub enable_istio_tags: Option<bool>,
    }

    /// Side of the traffic.
    pub struct TracingSelector {
        /// Side.
        pub mode: WorkloadMode,
    }

    /// An extension provider of the mesh configuration.
    pub struct ProviderRef {
        /// Name.
        #[schemars(extend("x-required" = true), length(min = 1))]
        pub name: String,
    }

    /// Where the value of a tag comes from: one of these.
    pub struct CustomTag {
        /// A constant.
        pub literal: Option<LiteralTag>,
        /// An environment variable of the proxy.
        pub environment: Option<EnvironmentTag>,
        /// A request header.
        pub header: Option<HeaderTag>,
        /// Command operators as in access logs.
        pub formatter: Option<LiteralTag>,
    }

    /// A constant, or a format.
    pub struct LiteralTag {
        /// The value.
        pub value: String,
    }

    /// An environment variable of the proxy.
    pub struct EnvironmentTag {
        /// Its name.
        #[schemars(extend("x-required" = true), length(min = 1))]
        pub name: String,
        /// Value without it.
        pub default_value: String,
    }

    /// A request header.
    pub struct HeaderTag {
        /// Its name.
        #[schemars(extend("x-required" = true), length(min = 1))]
        pub name: String,
        /// Value without it.
        pub default_value: String,
    }

    /// A rule for metrics.
    pub struct Metrics {
        /// Where metrics go.
        pub providers: Vec<ProviderRef>,
        /// Changes of single metrics.
        pub overrides: Vec<MetricsOverrides>,
        /// Time between reports of open TCP connections; 5 s if absent.
        pub reporting_interval: Option<Duration>,
    }

    /// A change of a metric.
    pub struct MetricsOverrides {
        /// Which metric; all if absent.
        pub r#match: Option<MetricSelector>,
        /// Turn it off.
        pub disabled: Option<bool>,
        /// Changes of its labels.
        pub tag_overrides: BTreeMap<String, TagOverride>,
    }

    /// Which metric: `metric` or `customMetric`.
    pub struct MetricSelector {
        /// A standard metric.
        pub metric: Option<IstioMetric>,
        /// Another metric, by name.
        #[schemars(length(min = 1))]
        pub custom_metric: Option<String>,
        /// Side of the traffic.
        pub mode: WorkloadMode,
    }

    /// A change of a label.
    pub struct TagOverride {
        /// What is done.
        pub operation: TagOperation,
        /// CEL expression of the value.
        pub value: String,
    }

    /// A rule for access logs.
    pub struct AccessLogging {
        /// Side of the traffic.
        pub r#match: Option<LogSelector>,
        /// Where entries go.
        pub providers: Vec<ProviderRef>,
        /// Turn it off.
        pub disabled: Option<bool>,
        /// Which requests.
        pub filter: Option<LogFilter>,
    }

    /// Side of the traffic.
    pub struct LogSelector {
        /// Side.
        pub mode: WorkloadMode,
    }

    /// Which requests are logged.
    pub struct LogFilter {
        /// CEL expression.
        pub expression: String,
    }
}

names! {
    /// Side of the traffic.
    pub enum WorkloadMode {
        /// Both.
        ClientAndServer = "CLIENT_AND_SERVER",
        /// Outbound.
        Client = "CLIENT",
        /// Inbound.
        Server = "SERVER",
    }

    /// Istio's standard metrics.
    pub enum IstioMetric {
        /// All of them.
        AllMetrics = "ALL_METRICS",
        /// `istio_requests_total`.
        RequestCount = "REQUEST_COUNT",
        /// `istio_request_duration_milliseconds`.
        RequestDuration = "REQUEST_DURATION",
        /// `istio_request_bytes`.
        RequestSize = "REQUEST_SIZE",
        /// `istio_response_bytes`.
        ResponseSize = "RESPONSE_SIZE",
        /// `istio_tcp_connections_opened_total`.
        TcpOpenedConnections = "TCP_OPENED_CONNECTIONS",
        /// `istio_tcp_connections_closed_total`.
        TcpClosedConnections = "TCP_CLOSED_CONNECTIONS",
        /// `istio_tcp_sent_bytes_total`.
        TcpSentBytes = "TCP_SENT_BYTES",
        /// `istio_tcp_received_bytes_total`.
        TcpReceivedBytes = "TCP_RECEIVED_BYTES",
        /// `istio_request_messages_total`.
        GrpcRequestMessages = "GRPC_REQUEST_MESSAGES",
        /// `istio_response_messages_total`.
        GrpcResponseMessages = "GRPC_RESPONSE_MESSAGES",
    }

    /// What is done with a label.
    pub enum TagOperation {
        /// Set.
        Upsert = "UPSERT",
        /// Removed.
        Remove = "REMOVE",
    }
}
