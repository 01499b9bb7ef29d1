//! Settings of the mesh as a whole: the `mesh` key of the ConfigMap `istio`.

mod providers;
mod proxy;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use providers::*;
pub use proxy::*;

use crate::{
    istio::{
        ClientTlsSettings, Duration, FieldError, HttpRetry, LocalityLbSetting, TcpKeepalive, ZoneAwareLbSetting,
        deserialize,
        error::{At, Findings},
        message::{message, names},
    },
    k8s::LabelSelector,
};

/// Defines settings whose defaults are not the zero of their type.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* pub $field:ident : $ty:ty = $default:expr, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }
    };
}

use settings;

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration(std::time::Duration::from_secs(count))
}

settings! {
    /// Settings of the mesh. What is not written has Istio's default.
    pub struct MeshConfig {
        /// Port of the listener for captured outbound traffic.
        pub proxy_listen_port: u16 = crate::names::port::OUTBOUND,
        /// Port of the listener for captured inbound traffic.
        pub proxy_inbound_listen_port: u16 = crate::names::port::INBOUND,
        /// Port of an HTTP proxy for the application; none if 0.
        pub proxy_http_port: u16 = 0,
        /// Limit for opening a connection upstream.
        pub connect_timeout: Duration = seconds(10),
        /// Idle limit of HBONE connections.
        pub hbone_idle_timeout: Duration = seconds(3600),
        /// How long a client that says nothing is waited for when the protocol is found out; `0s` for ever.
        pub protocol_detection_timeout: Duration = seconds(0),
        /// Keepalive of upstream sockets.
        pub tcp_keepalive: Option<TcpKeepalive> = None,
        /// Class of Ingress objects that are read.
        pub ingress_class: String = "istio".into(),
        /// Service of the ingress gateway.
        pub ingress_service: String = "istio-ingressgateway".into(),
        /// Label `istio` of the pods that serve Ingress objects.
        pub ingress_selector: String = "ingressgateway".into(),
        /// Which Ingress objects are read.
        pub ingress_controller_mode: IngressControllerMode = IngressControllerMode::Strict,
        /// Make spans and request ids.
        pub enable_tracing: bool = true,
        /// File of the access log; none if empty.
        pub access_log_file: String = String::new(),
        /// Format of the access log; Envoy's if empty.
        pub access_log_format: String = String::new(),
        /// Encoding of the access log.
        pub access_log_encoding: AccessLogEncoding = AccessLogEncoding::Text,
        /// Send access logs to the service of `defaultConfig.envoyAccessLogService`.
        pub enable_envoy_access_log_service: bool = false,
        /// No log entries of listeners.
        pub disable_envoy_listener_log: bool = false,
        /// Settings of all proxies.
        pub default_config: ProxyConfig = ProxyConfig::default(),
        /// What is done with unknown destinations.
        pub outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy::default(),
        /// Where inbound traffic is sent in the pod.
        pub inbound_traffic_policy: InboundTrafficPolicy = InboundTrafficPolicy::default(),
        /// Further sources of objects.
        pub config_sources: Vec<ConfigSource> = Vec::new(),
        /// Mutual TLS between sidecars without a DestinationRule.
        pub enable_auto_mtls: bool = true,
        /// Trust domain of the mesh's identities.
        pub trust_domain: String = crate::names::DEFAULT_TRUST_DOMAIN.into(),
        /// Former names of the trust domain.
        pub trust_domain_aliases: Vec<String> = Vec::new(),
        /// Further roots that are trusted.
        pub ca_certificates: Vec<CertificateData> = Vec::new(),
        /// Who sees services that do not say.
        pub default_service_export_to: Vec<String> = vec!["*".into()],
        /// Who sees VirtualServices that do not say.
        pub default_virtual_service_export_to: Vec<String> = vec!["*".into()],
        /// Who sees DestinationRules that do not say.
        pub default_destination_rule_export_to: Vec<String> = vec!["*".into()],
        /// Namespace of mesh-wide objects.
        pub root_namespace: String = crate::names::ROOT_NAMESPACE.into(),
        /// Preference for near endpoints.
        pub locality_lb_setting: Option<LocalityLbSetting> =
            Some(LocalityLbSetting { enabled: Some(true), ..Default::default() }),
        /// Zone-aware routing.
        pub zone_aware_lb_setting: Option<ZoneAwareLbSetting> = None,
        /// How often names of DNS clusters are looked up.
        pub dns_refresh_rate: Duration = seconds(60),
        /// Whether HTTP/1.1 goes on as HTTP/2.
        pub h2_upgrade_policy: MeshH2UpgradePolicy = MeshH2UpgradePolicy::DoNotUpgrade,
        /// Pattern of the statistics of inbound clusters.
        pub inbound_cluster_stat_name: String = String::new(),
        /// Pattern of the statistics of outbound clusters.
        pub outbound_cluster_stat_name: String = String::new(),
        /// Deprecated; not read.
        pub certificates: Vec<Value> = Vec::new(),
        /// Services that are reached in the same cluster only.
        pub service_settings: Vec<ServiceSettings> = Vec::new(),
        /// Which services are seen by other clusters.
        pub service_scope_configs: Vec<ServiceScopeConfig> = Vec::new(),
        /// Merge the application's metrics with the proxy's.
        pub enable_prometheus_merge: bool = true,
        /// Deprecated; not read.
        pub verify_certificate_at_client: Option<bool> = None,
        /// External certificate authority.
        pub ca: Option<ExternalCa> = None,
        /// Services that objects refer to by name: tracers, log sinks, authorizers.
        pub extension_providers: Vec<ExtensionProvider> = default_providers(),
        /// Providers of objects that name none.
        pub default_providers: DefaultProviders = DefaultProviders::default(),
        /// Namespaces that are watched; all if empty.
        pub discovery_selectors: Vec<LabelSelector> = Vec::new(),
        /// How paths are normalised before they are matched.
        pub path_normalization: PathNormalization = PathNormalization::default(),
        /// Retries of routes that do not say; 2 if absent.
        pub default_http_retry_policy: Option<HttpRetry> = None,
        /// Whether a 503 of the upstream is left out of Istio's own retries. No setting of the file: the control plane is
        /// told by `EXCLUDE_UNSAFE_503_FROM_DEFAULT_RETRY` in its environment.
        #[serde(skip)]
        pub exclude_unsafe_503: bool = false,
        /// TLS between workloads.
        #[serde(rename = "meshMTLS")]
        pub mesh_mtls: TlsConfig = TlsConfig::default(),
        /// TLS to and from everybody else.
        pub tls_defaults: TlsConfig = TlsConfig::default(),
        /// Restrictions such as `fips-140-2`.
        pub compliance_policy: String = String::new(),
        /// Traffic policy of services without a DestinationRule.
        pub default_traffic_policy: Option<Value> = None,
        /// Which ServiceEntries are seen by whom.
        pub service_entry_visibility: Option<Value> = None,
    }
}

message! {
    /// What is done with unknown destinations.
    pub struct OutboundTrafficPolicy {
        /// Refused, or passed on.
        pub mode: MeshOutboundMode,
        /// TLS towards them, with ALLOW_ANY_DYNAMIC_DNS.
        pub tls: Option<ClientTlsSettings>,
    }

    /// Where inbound traffic is sent in the pod.
    pub struct InboundTrafficPolicy {
        /// Where.
        pub mode: InboundTrafficMode,
    }

    /// A further source of objects.
    pub struct ConfigSource {
        /// `fs:///path`, `xds://host`, `k8s://`.
        pub address: String,
        /// TLS towards it.
        pub tls_settings: Option<ClientTlsSettings>,
        /// What it holds.
        pub subscribed_resources: Vec<String>,
    }

    /// Roots that are trusted: `pem` or `spiffeBundleUrl`.
    pub struct CertificateData {
        /// Certificates in PEM.
        pub pem: Option<String>,
        /// Where a SPIFFE bundle is fetched.
        pub spiffe_bundle_url: Option<String>,
        /// Signers that the roots are for.
        pub cert_signers: Vec<String>,
        /// Trust domains that the roots are for.
        pub trust_domains: Vec<String>,
    }

    /// Settings of services.
    pub struct ServiceSettings {
        /// The settings.
        pub settings: Option<ServiceSettingsValues>,
        /// Hosts, `*.` wildcards allowed.
        pub hosts: Vec<String>,
    }

    /// Settings of services.
    pub struct ServiceSettingsValues {
        /// Reached in the same cluster only.
        #[serde(alias = "cluster_local")]
        pub cluster_local: bool,
    }

    /// An external certificate authority.
    pub struct ExternalCa {
        /// Its address.
        pub address: String,
        /// TLS towards it.
        pub tls_settings: Option<ClientTlsSettings>,
        /// Limit of a request; 10 s if absent.
        pub request_timeout: Option<Duration>,
        /// Whether the control plane asks it, rather than each proxy.
        pub istiod_side: bool,
    }

    /// Names of extension providers.
    pub struct DefaultProviders {
        /// For traces.
        pub tracing: Vec<String>,
        /// For metrics.
        pub metrics: Vec<String>,
        /// For access logs.
        pub access_logging: Vec<String>,
    }

    /// How paths are normalised.
    pub struct PathNormalization {
        /// How far.
        pub normalization: NormalizationType,
    }

    /// Limits of TLS.
    pub struct TlsConfig {
        /// Oldest version.
        pub min_protocol_version: MeshTlsProtocol,
        /// Curves of the key exchange.
        pub ecdh_curves: Vec<String>,
        /// Cipher suites of TLS 1.2.
        pub cipher_suites: Vec<String>,
    }
}

/// Which services are seen by other clusters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServiceScopeConfig {
    /// Namespaces that it is for.
    #[serde(alias = "namespacesSelector")]
    pub namespace_selector: Option<LabelSelector>,
    /// Services that it is for.
    pub services_selector: Option<LabelSelector>,
    /// `LOCAL` or `GLOBAL`.
    pub scope: ServiceScope,
}

names! {
    /// What is done with unknown destinations.
    pub enum MeshOutboundMode {
        /// Passed on.
        AllowAny = "ALLOW_ANY",
        /// Refused.
        RegistryOnly = "REGISTRY_ONLY",
        /// Passed on by name.
        AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS",
    }

    /// Where inbound traffic is sent in the pod.
    pub enum InboundTrafficMode {
        /// To the address that the client asked for.
        Passthrough = "PASSTHROUGH",
        /// To the loopback address.
        Localhost = "LOCALHOST",
    }

    /// Which Ingress objects are read.
    pub enum IngressControllerMode {
        /// As STRICT.
        Unspecified = "UNSPECIFIED",
        /// None.
        Off = "OFF",
        /// Those of the class, and those without one.
        Default = "DEFAULT",
        /// Those of the class.
        Strict = "STRICT",
    }

    /// Encoding of the access log.
    pub enum AccessLogEncoding {
        /// Lines of text.
        Text = "TEXT",
        /// Lines of JSON.
        Json = "JSON",
    }

    /// Whether HTTP/1.1 goes on as HTTP/2.
    pub enum MeshH2UpgradePolicy {
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }

    /// How far paths are normalised.
    pub enum NormalizationType {
        /// As BASE.
        Default = "DEFAULT",
        /// Not at all.
        None = "NONE",
        /// As RFC 3986: `/a/../b` is `/b`.
        Base = "BASE",
        /// And `//` is `/`.
        MergeSlashes = "MERGE_SLASHES",
        /// And `%2F` and `%5C` are slashes.
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
    }

    /// Oldest version of TLS.
    pub enum MeshTlsProtocol {
        /// TLS 1.2.
        Auto = "TLS_AUTO",
        /// TLS 1.2.
        V1_2 = "TLSV1_2",
        /// TLS 1.3.
        V1_3 = "TLSV1_3",
    }

    /// Who sees a service.
    pub enum ServiceScope {
        /// The same cluster.
        Local = "LOCAL",
        /// All clusters.
        Global = "GLOBAL",
    }
}

impl MeshConfig {
    /// Reads settings from YAML, as the ConfigMap holds them. Empty text is all defaults.
    ///
    /// # Errors
    /// Text that is no YAML, unknown fields by name, wrong types, values out of range.
    pub fn from_yaml(text: &str) -> Result<Self, Vec<FieldError>> {
        let config = Self::from_map(yaml_map(text)?)?;
        let errors: Vec<FieldError> = config.validate().into_iter().filter(FieldError::is_error).collect();
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    fn from_map(map: Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut config: Self = deserialize(Value::Object(map)).map_err(|e| vec![e])?;
        // Istio's own providers stay known beside those that are written; one of the same name takes its place.
        for provider in default_providers() {
            if !config
                .extension_providers
                .iter()
                .any(|other| other.name == provider.name)
            {
                config.extension_providers.push(provider);
            }
        }
        Ok(config)
    }

    /// What is wrong with the settings, or has no effect. Paths begin at the top of the settings.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut f = Findings::default();
        for (name, port) in [
            ("proxyListenPort", self.proxy_listen_port),
            ("proxyInboundListenPort", self.proxy_inbound_listen_port),
        ] {
            if port == 0 {
                f.error(&At::root(name), "must be a port from 1 to 65535");
            }
        }
        if self.connect_timeout.0.as_millis() == 0 {
            f.error(&At::root("connectTimeout"), "must be at least 1ms");
        }
        if self.trust_domain.is_empty() {
            f.error(
                &At::root("trustDomain"),
                "must not be empty; leave the field out for cluster.local",
            );
        }
        if self.root_namespace.is_empty() {
            f.error(
                &At::root("rootNamespace"),
                "must not be empty; leave the field out for istio-system",
            );
        }
        validate_providers(&self.extension_providers, &At::root("extensionProviders"), &mut f);
        self.default_config.check(&At::root("defaultConfig"), &mut f);
        let deprecated = "is deprecated and has no effect, as in Istio; remove it";
        for (name, set, why) in [
            ("certificates", !self.certificates.is_empty(), deprecated),
            (
                "verifyCertificateAtClient",
                self.verify_certificate_at_client.is_some(),
                deprecated,
            ),
            (
                "defaultTrafficPolicy",
                self.default_traffic_policy.is_some(),
                "is not supported; write a DestinationRule for the host *.local in the root namespace",
            ),
            (
                "serviceEntryVisibility",
                self.service_entry_visibility.is_some(),
                "is not supported; write exportTo in the ServiceEntries",
            ),
        ] {
            if set {
                f.warning(&At::root(name), why);
            }
        }
        f.0
    }
}

/// A map of settings; nothing at all is an empty one.
fn yaml_map(text: &str) -> Result<Map<String, Value>, Vec<FieldError>> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let fail = |message: String| vec![FieldError::error(".", message)];
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(fail("must be a map of fields".into())),
        Err(error) => {
            let text = error.to_string();
            Err(fail(format!("is no YAML: {}", text.lines().next().unwrap_or_default())))
        }
    }
}
