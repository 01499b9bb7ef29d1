//! Extension providers: services that objects refer to by name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::istio::{
    Duration,
    error::{At, Findings},
    message::message,
};

message! {
    /// A provider: a name, and exactly one kind.
    pub struct ExtensionProvider {
        /// Name that objects use.
        pub name: String,
        /// Authorization by HTTP.
        pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
        /// Authorization by gRPC.
        pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
        /// Traces to Zipkin.
        pub zipkin: Option<ZipkinProvider>,
        /// Traces to Lightstep; Istio has dropped it.
        pub lightstep: Option<Value>,
        /// Traces to Datadog.
        pub datadog: Option<ServiceProvider>,
        /// Stackdriver.
        pub stackdriver: Option<Value>,
        /// Traces to OpenCensus; deprecated.
        pub opencensus: Option<Value>,
        /// Traces to SkyWalking.
        pub skywalking: Option<SkyWalkingProvider>,
        /// Traces by OTLP.
        pub opentelemetry: Option<OpenTelemetryProvider>,
        /// Metrics for Prometheus.
        pub prometheus: Option<PrometheusProvider>,
        /// Access logs to a file.
        pub envoy_file_access_log: Option<FileAccessLogProvider>,
        /// Access logs of HTTP by gRPC.
        pub envoy_http_als: Option<GrpcLogProvider>,
        /// Access logs of TCP by gRPC.
        pub envoy_tcp_als: Option<GrpcLogProvider>,
        /// Access logs by OTLP.
        pub envoy_otel_als: Option<OtelLogProvider>,
        /// Secrets by SDS.
        pub sds: Option<SdsProvider>,
    }

    /// The body of the request, for an authorizer.
    pub struct ExtAuthzRequestBody {
        /// Most bytes that are held.
        pub max_request_bytes: u32,
        /// Send what there is, rather than refuse longer ones.
        pub allow_partial_message: bool,
        /// As bytes, rather than as text.
        pub pack_as_bytes: bool,
    }

    /// Authorization by HTTP.
    pub struct ExtAuthzHttp {
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
        /// Limit of a check; 600 s if absent.
        pub timeout: Option<Duration>,
        /// What is put before the path.
        pub path_prefix: String,
        /// Serve the request if the authorizer fails.
        pub fail_open: bool,
        /// Forget the chosen route after the check.
        pub clear_route_cache: bool,
        /// Status if the authorizer cannot be reached; 403 if empty.
        pub status_on_error: String,
        /// Deprecated; `includeRequestHeadersInCheck`.
        pub include_headers_in_check: Vec<String>,
        /// Request headers that are sent.
        pub include_request_headers_in_check: Vec<String>,
        /// Fixed headers that are sent.
        pub include_additional_headers_in_check: BTreeMap<String, String>,
        /// Body that is sent.
        pub include_request_body_in_check: Option<ExtAuthzRequestBody>,
        /// Headers of the answer that the application is given.
        pub headers_to_upstream_on_allow: Vec<String>,
        /// Headers of the answer that a refused client is given.
        pub headers_to_downstream_on_deny: Vec<String>,
        /// Headers of the answer that a served client is given.
        pub headers_to_downstream_on_allow: Vec<String>,
    }

    /// Authorization by gRPC.
    pub struct ExtAuthzGrpc {
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
        /// Limit of a check; 600 s if absent.
        pub timeout: Option<Duration>,
        /// Serve the request if the authorizer fails.
        pub fail_open: bool,
        /// Forget the chosen route after the check.
        pub clear_route_cache: bool,
        /// Status if the authorizer cannot be reached; 403 if empty.
        pub status_on_error: String,
        /// Body that is sent.
        pub include_request_body_in_check: Option<ExtAuthzRequestBody>,
    }

    /// A tracer with nothing but an address.
    pub struct ServiceProvider {
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
        /// Longest path in spans.
        pub max_tag_length: u32,
    }

    /// Zipkin.
    pub struct ZipkinProvider {
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
        /// Longest path in spans.
        pub max_tag_length: u32,
        /// Short trace ids.
        #[serde(rename = "enable64bitTraceId")]
        pub enable_64bit_trace_id: bool,
        /// Path of the API; `/api/v2/spans` if empty.
        pub path: String,
        /// How trace ids are passed on.
        pub trace_context_option: String,
        /// Limit of a request.
        pub timeout: Option<Duration>,
        /// Headers of the requests.
        pub headers: Vec<ProviderHeader>,
    }

    /// SkyWalking.
    pub struct SkyWalkingProvider {
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
        /// Token of the service.
        pub access_token: String,
    }

    /// Traces by OTLP.
    pub struct OpenTelemetryProvider {
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
        /// Longest path in spans.
        pub max_tag_length: u32,
        /// By HTTP in place of gRPC.
        pub http: Option<HttpServiceProvider>,
        /// Further options of gRPC.
        pub grpc: Option<GrpcServiceProvider>,
        /// Where attributes of the resource come from.
        #[serde(alias = "resource_detectors")]
        pub resource_detectors: Option<Value>,
        /// Sampler of Dynatrace.
        pub dynatrace_sampler: Option<Value>,
    }

    /// A service by HTTP.
    pub struct HttpServiceProvider {
        /// Path.
        pub path: String,
        /// Limit of a request; 3 s if absent.
        pub timeout: Option<Duration>,
        /// Headers of the requests.
        pub headers: Vec<ProviderHeader>,
    }

    /// A service by gRPC.
    pub struct GrpcServiceProvider {
        /// Limit of a request.
        pub timeout: Option<Duration>,
        /// Metadata of the first message.
        pub initial_metadata: Vec<ProviderHeader>,
    }

    /// A header: `value` or `envName`.
    pub struct ProviderHeader {
        /// Name.
        pub name: String,
        /// Value.
        pub value: Option<String>,
        /// Environment variable of the proxy that holds the value.
        pub env_name: Option<String>,
    }

    /// Metrics for Prometheus.
    pub struct PrometheusProvider {}

    /// Access logs to a file.
    pub struct FileAccessLogProvider {
        /// The file; `/dev/stdout` if empty.
        pub path: String,
        /// Form of the entries.
        pub log_format: Option<LogFormat>,
        /// Leave out what a format asks for and is not there.
        pub omit_empty_values: bool,
    }

    /// Form of log entries: lines of text or JSON.
    pub struct LogFormat {
        /// Text with command operators.
        pub text: Option<String>,
        /// Fields with command operators.
        pub labels: Option<Map<String, Value>>,
    }

    /// Access logs by gRPC.
    pub struct GrpcLogProvider {
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
        /// Name of the log.
        pub log_name: String,
        /// Filter state that is logged.
        pub filter_state_objects_to_log: Vec<String>,
        /// Request headers that are logged.
        pub additional_request_headers_to_log: Vec<String>,
        /// Response headers that are logged.
        pub additional_response_headers_to_log: Vec<String>,
        /// Response trailers that are logged.
        pub additional_response_trailers_to_log: Vec<String>,
    }

    /// Access logs by OTLP.
    pub struct OtelLogProvider {
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
        /// Name of the log.
        pub log_name: String,
        /// Form of the entries.
        pub log_format: Option<LogFormat>,
    }

    /// Secrets by SDS.
    pub struct SdsProvider {
        /// Name of the provider.
        pub name: String,
        /// Service, `[namespace/]host`.
        pub service: String,
        /// Its port.
        pub port: u32,
    }
}

/// The providers that are there without being written.
pub(super) fn default_providers() -> Vec<ExtensionProvider> {
    vec![
        ExtensionProvider {
            name: "prometheus".into(),
            prometheus: Some(PrometheusProvider {}),
            ..Default::default()
        },
        ExtensionProvider {
            name: "stackdriver".into(),
            stackdriver: Some(Value::Object(Map::new())),
            ..Default::default()
        },
        ExtensionProvider {
            name: "envoy".into(),
            envoy_file_access_log: Some(FileAccessLogProvider {
                path: "/dev/stdout".into(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ]
}

/// Exactly one kind each, names that are there and unique, and addresses.
pub(super) fn validate_providers(providers: &[ExtensionProvider], at: &At<'_>, f: &mut Findings) {
    let mut names = BTreeSet::new();
    for (i, provider) in providers.iter().enumerate() {
        let at = at.index(i);
        if provider.name.is_empty() {
            f.error(&at.field("name"), "is missing; give the provider a name");
        } else if !names.insert(&provider.name) {
            f.error(
                &at.field("name"),
                format!("another provider has the name {:?}; give each its own", provider.name),
            );
        }
        let services = [
            (
                "envoyExtAuthzHttp",
                provider.envoy_ext_authz_http.as_ref().map(|p| (&p.service, p.port)),
            ),
            (
                "envoyExtAuthzGrpc",
                provider.envoy_ext_authz_grpc.as_ref().map(|p| (&p.service, p.port)),
            ),
            ("zipkin", provider.zipkin.as_ref().map(|p| (&p.service, p.port))),
            ("datadog", provider.datadog.as_ref().map(|p| (&p.service, p.port))),
            ("skywalking", provider.skywalking.as_ref().map(|p| (&p.service, p.port))),
            (
                "opentelemetry",
                provider.opentelemetry.as_ref().map(|p| (&p.service, p.port)),
            ),
            (
                "envoyHttpAls",
                provider.envoy_http_als.as_ref().map(|p| (&p.service, p.port)),
            ),
            (
                "envoyTcpAls",
                provider.envoy_tcp_als.as_ref().map(|p| (&p.service, p.port)),
            ),
            (
                "envoyOtelAls",
                provider.envoy_otel_als.as_ref().map(|p| (&p.service, p.port)),
            ),
            ("sds", provider.sds.as_ref().map(|p| (&p.service, p.port))),
        ];
        let others = [
            provider.lightstep.is_some(),
            provider.stackdriver.is_some(),
            provider.opencensus.is_some(),
            provider.prometheus.is_some(),
            provider.envoy_file_access_log.is_some(),
        ];
        let set = services.iter().filter(|(_, service)| service.is_some()).count()
            + others.iter().filter(|set| **set).count();
        if set != 1 {
            f.error(
                &at,
                format!("the provider must have exactly one kind, such as zipkin or envoyFileAccessLog, and has {set}"),
            );
        }
        for (name, service) in services {
            let Some((host, port)) = service else { continue };
            let at = at.field(name);
            if host.is_empty() {
                f.error(&at.field("service"), "is missing; write the full name of a service");
            }
            if !(1..=65535).contains(&port) {
                f.error(
                    &at.field("port"),
                    format!("{port} is no port: write a number from 1 to 65535"),
                );
            }
        }
    }
}
