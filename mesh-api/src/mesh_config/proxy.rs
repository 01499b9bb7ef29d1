//! Settings of a proxy: `defaultConfig` of the mesh, the annotation `proxy.istio.io/config` of a pod, and the
//! environment variable `PROXY_CONFIG` of a proxy.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{seconds, settings, yaml_map};
use crate::istio::{
    ClientTlsSettings, CustomTag, Duration, FieldError, ProxyImage, ReadinessProbe, TcpKeepalive, deserialize,
    error::{At, Findings},
    message::{message, names},
};

settings! {
    /// Settings of a proxy. What is not written has Istio's default.
    pub struct ProxyConfig {
        /// Folder of generated files.
        pub config_path: String = "./etc/istio/proxy".into(),
        /// Envoy's binary; not read, as the proxy is its own.
        pub binary_path: String = "/usr/local/bin/envoy".into(),
        /// Name of the node's cluster.
        pub service_cluster: String = "istio-proxy".into(),
        /// How the service is named in spans, in place of `serviceCluster`.
        pub tracing_service_name: Option<TracingServiceName> = None,
        /// How long listeners are drained when configuration changes.
        pub drain_duration: Duration = seconds(45),
        /// How long connections may end after SIGTERM.
        pub termination_drain_duration: Duration = seconds(5),
        /// Deprecated; not read.
        pub parent_shutdown_duration: Option<Duration> = None,
        /// Address of the control plane.
        pub discovery_address: String = "istiod.istio-system.svc:15012".into(),
        /// Deprecated; not read.
        pub discovery_refresh_delay: Option<Duration> = None,
        /// Deprecated address of a Zipkin service.
        pub zipkin_address: String = String::new(),
        /// UDP address of a statsd service.
        pub statsd_udp_address: String = String::new(),
        /// Deprecated address of a metrics service.
        pub envoy_metrics_service_address: String = String::new(),
        /// Port of the admin API.
        pub proxy_admin_port: u16 = crate::names::port::ADMIN,
        /// Deprecated; not read.
        pub availability_zone: String = String::new(),
        /// How the proxy speaks to the control plane.
        pub control_plane_auth_policy: AuthenticationPolicy = AuthenticationPolicy::MutualTls,
        /// File of a bootstrap of one's own.
        pub custom_config_file: String = String::new(),
        /// Longest name in statistics.
        pub stat_name_length: u32 = 189,
        /// Worker threads; 0 for one a core, by the CPU limit if absent.
        pub concurrency: Option<u32> = None,
        /// File of the bootstrap's template; not read.
        pub proxy_bootstrap_template_path: String = String::new(),
        /// How inbound traffic is captured.
        pub interception_mode: InboundInterceptionMode = InboundInterceptionMode::Redirect,
        /// Traces.
        pub tracing: Option<Tracing> = Some(Tracing::default()),
        /// Deprecated; not read.
        pub sds: Option<Value> = None,
        /// Service that access logs are sent to.
        pub envoy_access_log_service: Option<RemoteService> = None,
        /// Service that metrics are sent to.
        pub envoy_metrics_service: Option<RemoteService> = None,
        /// Environment of the proxy; names with `ISTIO_META_` become metadata of the node.
        pub proxy_metadata: BTreeMap<String, String> = BTreeMap::new(),
        /// Envoy's runtime values.
        pub runtime_values: BTreeMap<String, String> = BTreeMap::new(),
        /// Port of health and merged metrics.
        pub status_port: u16 = crate::names::port::STATUS,
        /// Further labels of metrics.
        pub extra_stat_tags: Vec<String> = Vec::new(),
        /// Proxies in front of a gateway.
        pub gateway_topology: Option<Topology> = None,
        /// Name of the mesh in telemetry.
        pub mesh_id: String = String::new(),
        /// Health check of a workload outside of Kubernetes.
        pub readiness_probe: Option<ReadinessProbe> = None,
        /// Further statistics that are kept.
        pub proxy_stats_matcher: Option<ProxyStatsMatcher> = None,
        /// Start the application after the proxy.
        pub hold_application_until_proxy_starts: bool = false,
        /// Further roots, in PEM.
        pub ca_certificates_pem: Vec<String> = Vec::new(),
        /// Image of the proxy.
        pub image: Option<ProxyImage> = None,
        /// Hardware that holds private keys.
        pub private_key_provider: Option<Value> = None,
        /// Headers that the proxy adds.
        pub proxy_headers: Option<ProxyHeaders> = None,
        /// How long entries of the access log may wait.
        pub file_flush_interval: Option<Duration> = None,
        /// Whether metrics are sent compressed.
        pub stats_compression: Option<Value> = None,
        /// How many kilobytes of the access log may wait.
        #[serde(alias = "fileFlushMinSizeKB")]
        pub file_flush_min_size_kb: Option<u32> = None,
    }
}

settings! {
    /// Traces: at most one tracer.
    pub struct Tracing {
        /// Zipkin.
        pub zipkin: Option<TracerAddress> = None,
        /// Not supported any more.
        pub lightstep: Option<Value> = None,
        /// Datadog.
        pub datadog: Option<TracerAddress> = None,
        /// Not supported any more.
        pub stackdriver: Option<Value> = None,
        /// Not supported any more.
        pub open_census_agent: Option<Value> = None,
        /// Tags of all spans.
        pub custom_tags: BTreeMap<String, CustomTag> = BTreeMap::new(),
        /// Longest path in spans.
        pub max_path_tag_length: u32 = 256,
        /// Share of requests that are sampled, 0.0 to 100.0.
        pub sampling: f64 = 1.0,
        /// TLS towards the tracer.
        pub tls_settings: Option<ClientTlsSettings> = None,
    }
}

message! {
    /// A tracer.
    pub struct TracerAddress {
        /// Its address, `host:port`.
        pub address: String,
    }

    /// A service that is sent something.
    pub struct RemoteService {
        /// Its address, `host:port`.
        pub address: String,
        /// TLS towards it.
        pub tls_settings: Option<ClientTlsSettings>,
        /// Keepalive of the socket.
        pub tcp_keepalive: Option<TcpKeepalive>,
    }

    /// Proxies in front of a gateway.
    pub struct Topology {
        /// How many of them are trusted to write X-Forwarded-For.
        pub num_trusted_proxies: u32,
        /// What is done with X-Forwarded-Client-Cert.
        pub forward_client_cert_details: ForwardClientCertDetails,
        /// Read the PROXY header.
        pub proxy_protocol: Option<ProxyProtocolConfig>,
    }

    /// The PROXY header.
    pub struct ProxyProtocolConfig {}

    /// Statistics that are kept.
    pub struct ProxyStatsMatcher {
        /// By the beginning of their names.
        pub inclusion_prefixes: Vec<String>,
        /// By the end of their names.
        pub inclusion_suffixes: Vec<String>,
        /// By regular expressions.
        pub inclusion_regexps: Vec<String>,
    }

    /// Headers that the proxy adds.
    pub struct ProxyHeaders {
        /// X-Forwarded-Client-Cert.
        pub forwarded_client_cert: ForwardClientCertDetails,
        /// Fields of X-Forwarded-Client-Cert.
        pub set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
        /// X-Request-Id.
        pub request_id: Option<HeaderSwitch>,
        /// Server.
        pub server: Option<ServerHeader>,
        /// X-Envoy-Attempt-Count.
        pub attempt_count: Option<HeaderSwitch>,
        /// X-Envoy-* headers for finding errors.
        pub envoy_debug_headers: Option<HeaderSwitch>,
        /// X-Envoy-Peer-Metadata.
        pub metadata_exchange_headers: Option<MetadataExchangeHeaders>,
        /// Keep the case of HTTP/1.1 headers.
        pub preserve_http1_header_case: Option<bool>,
        /// X-Forwarded-Host.
        pub x_forwarded_host: Option<EnabledSwitch>,
        /// X-Forwarded-Port.
        pub x_forwarded_port: Option<EnabledSwitch>,
    }

    /// Fields of X-Forwarded-Client-Cert.
    pub struct SetCurrentClientCertDetails {
        /// Subject.
        pub subject: Option<bool>,
        /// The certificate.
        pub cert: Option<bool>,
        /// The chain.
        pub chain: Option<bool>,
        /// DNS names.
        pub dns: Option<bool>,
        /// URI names.
        pub uri: Option<bool>,
    }

    /// A header that can be turned off.
    pub struct HeaderSwitch {
        /// Turned off.
        pub disabled: Option<bool>,
    }

    /// A header that can be turned on.
    pub struct EnabledSwitch {
        /// Turned on.
        pub enabled: Option<bool>,
    }

    /// The Server header.
    pub struct ServerHeader {
        /// Turned off.
        pub disabled: Option<bool>,
        /// Its value.
        pub value: String,
    }

    /// X-Envoy-Peer-Metadata.
    pub struct MetadataExchangeHeaders {
        /// Towards whom.
        pub mode: MetadataExchangeMode,
    }
}

names! {
    /// How the proxy speaks to the control plane.
    pub enum AuthenticationPolicy {
        /// Plaintext.
        None = "NONE",
        /// TLS.
        MutualTls = "MUTUAL_TLS",
        /// As the mesh has it.
        Inherit = "INHERIT",
    }

    /// How inbound traffic is captured.
    pub enum InboundInterceptionMode {
        /// By iptables REDIRECT.
        Redirect = "REDIRECT",
        /// By iptables TPROXY, which keeps the client's address.
        Tproxy = "TPROXY",
        /// Not at all.
        None = "NONE",
    }

    /// How the service is named in spans.
    pub enum TracingServiceName {
        /// By the label `app` and the namespace.
        AppLabelAndNamespace = "APP_LABEL_AND_NAMESPACE",
        /// By the canonical name.
        CanonicalNameOnly = "CANONICAL_NAME_ONLY",
        /// By the canonical name and the namespace.
        CanonicalNameAndNamespace = "CANONICAL_NAME_AND_NAMESPACE",
    }

    /// What is done with X-Forwarded-Client-Cert.
    pub enum ForwardClientCertDetails {
        /// The default of the proxy's role.
        Undefined = "UNDEFINED",
        /// Removed.
        Sanitize = "SANITIZE",
        /// Passed on, if the client used mutual TLS.
        ForwardOnly = "FORWARD_ONLY",
        /// Passed on with the client added.
        AppendForward = "APPEND_FORWARD",
        /// Replaced by the client.
        SanitizeSet = "SANITIZE_SET",
        /// Passed on.
        AlwaysForwardOnly = "ALWAYS_FORWARD_ONLY",
    }

    /// Towards whom metadata is sent.
    pub enum MetadataExchangeMode {
        /// Everybody.
        Undefined = "UNDEFINED",
        /// Services of the mesh.
        InMesh = "IN_MESH",
    }
}

impl ProxyConfig {
    /// Reads `PROXY_CONFIG` or other YAML or JSON. Empty text is all defaults.
    ///
    /// # Errors
    /// Text that is no YAML, unknown fields by name, wrong types, values out of range.
    pub fn from_yaml(text: &str) -> Result<Self, Vec<FieldError>> {
        Self::default().overlay(text)
    }

    /// These settings with those of an annotation laid over them: a field that is written there takes the place of the
    /// whole field here, except for `proxyMetadata`, which is joined.
    ///
    /// # Errors
    /// As [`Self::from_yaml`].
    pub fn overlay(&self, text: &str) -> Result<Self, Vec<FieldError>> {
        let over = yaml_map(text)?;
        // What is written is read on its own first, so that errors speak only of it.
        deserialize::<Self>(Value::Object(over.clone())).map_err(|e| vec![e])?;
        let mut fields = self.to_map();
        for (key, value) in over {
            match (key.as_str(), fields.get_mut(&key), value) {
                ("proxyMetadata", Some(Value::Object(base)), Value::Object(more)) => base.extend(more),
                (_, _, value) => {
                    fields.insert(key, value);
                }
            }
        }
        let merged: Self = deserialize(Value::Object(fields)).map_err(|e| vec![e])?;
        let errors: Vec<FieldError> = merged.validate().into_iter().filter(FieldError::is_error).collect();
        if errors.is_empty() { Ok(merged) } else { Err(errors) }
    }

    /// `PROXY_CONFIG` of a pod: JSON of what differs from the defaults.
    #[must_use]
    pub fn to_json(&self) -> String {
        let defaults = Self::default().to_map();
        let changed: Map<String, Value> = self
            .to_map()
            .into_iter()
            .filter(|(key, value)| defaults.get(key) != Some(value))
            .collect();
        Value::Object(changed).to_string()
    }

    fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            // All keys are strings and all numbers finite, so that writing cannot fail.
            _ => Map::new(),
        }
    }

    /// What is wrong with the settings, or has no effect. Paths begin at the top of the settings.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let root = At::root("");
        let mut f = Findings::default();
        self.check(&root, &mut f);
        for finding in &mut f.0 {
            // The empty root is written as [""].
            finding.path = finding.path.trim_start_matches("[\"\"].").to_owned();
        }
        f.0
    }

    pub(super) fn check(&self, at: &At<'_>, f: &mut Findings) {
        for (name, value) in [("drainDuration", self.drain_duration)] {
            if value.0.as_secs() == 0 {
                f.error(&at.field(name), "must be at least 1s");
            }
        }
        for (name, port) in [
            ("proxyAdminPort", self.proxy_admin_port),
            ("statusPort", self.status_port),
        ] {
            if port == 0 {
                f.error(&at.field(name), "must be a port from 1 to 65535");
            }
        }
        if let Some(tracing) = &self.tracing {
            let at = at.field("tracing");
            if !(0.0..=100.0).contains(&tracing.sampling) {
                f.error(&at.field("sampling"), "must be from 0 to 100");
            }
            let set = [
                ("zipkin", tracing.zipkin.is_some()),
                ("lightstep", tracing.lightstep.is_some()),
                ("datadog", tracing.datadog.is_some()),
                ("stackdriver", tracing.stackdriver.is_some()),
                ("openCensusAgent", tracing.open_census_agent.is_some()),
            ];
            if set.iter().filter(|(_, set)| *set).count() > 1 {
                f.error(&at, "only one tracer can be set");
            }
            for (name, _) in set
                .iter()
                .filter(|(name, set)| *set && !matches!(*name, "zipkin" | "datadog"))
            {
                f.warning(&at.field(name), "is not supported; it has no effect");
            }
        }
        for (name, set) in [
            ("parentShutdownDuration", self.parent_shutdown_duration.is_some()),
            ("discoveryRefreshDelay", self.discovery_refresh_delay.is_some()),
            ("availabilityZone", !self.availability_zone.is_empty()),
            ("sds", self.sds.is_some()),
            ("privateKeyProvider", self.private_key_provider.is_some()),
            ("statsCompression", self.stats_compression.is_some()),
            (
                "proxyBootstrapTemplatePath",
                !self.proxy_bootstrap_template_path.is_empty(),
            ),
        ] {
            if set {
                let why = crate::proxy_fields::without_effect(name);
                f.warning(&at.field(name), why.unwrap_or("is not supported; it has no effect"));
            }
        }
    }
}
