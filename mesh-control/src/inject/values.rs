//! The injector's settings: values of the chart, key `values` of its ConfigMap. The names are those of Istio's charts.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

/// Defines values whose defaults are not the zero of their type.
macro_rules! values {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* pub $field:ident : $ty:ty = $default:expr, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }
    )*};
}

values! {
    /// Those values that injection reads; others may stand beside them.
    pub struct Values {
        /// Of all components.
        pub global: Global = Global::default(),
        /// Name of the control plane; empty for the default one.
        pub revision: String = String::new(),
        /// The node agent captures traffic.
        #[serde(rename = "istio_cni")]
        pub istio_cni: Cni = Cni::default(),
        /// Of the control plane.
        pub pilot: Pilot = Pilot::default(),
        /// Of injection.
        pub sidecar_injector_webhook: Webhook = Webhook::default(),
    }

    /// Of all components.
    pub struct Global {
        /// Where images come from.
        pub hub: String = "localhost/ferromesh".to_owned(),
        /// Version of images.
        #[serde(deserialize_with = "scalar")]
        pub tag: String = env!("CARGO_PKG_VERSION").to_owned(),
        /// Type of images: `default`, `debug`, `distroless`.
        pub variant: String = String::new(),
        /// Pull policy of the proxy's image; Kubernetes' own if empty.
        pub image_pull_policy: String = String::new(),
        /// Names of Secrets for pulling.
        #[serde(deserialize_with = "secret_names")]
        pub image_pull_secrets: Vec<String> = Vec::new(),
        /// Namespace of the control plane.
        pub istio_namespace: String = mesh_api::names::ROOT_NAMESPACE.to_owned(),
        /// Log as JSON.
        pub log_as_json: bool = false,
        /// Logs.
        pub logging: Logging = Logging::default(),
        /// Name of the mesh; its trust domain if empty.
        #[serde(rename = "meshID")]
        pub mesh_id: String = String::new(),
        /// Network of the cluster.
        pub network: String = String::new(),
        /// Several clusters.
        pub multi_cluster: MultiCluster = MultiCluster::default(),
        /// Address of the certificate authority; the control plane if empty.
        pub ca_address: String = String::new(),
        /// Name of the certificate authority.
        pub ca_name: String = String::new(),
        /// Who signs the control plane's certificate.
        pub pilot_cert_provider: String = "istiod".to_owned(),
        /// Which tokens prove workloads.
        pub jwt_policy: String = "third-party-jwt".to_owned(),
        /// Trust domain, where the settings of the mesh have none.
        pub trust_domain: String = String::new(),
        /// ConfigMap of the mesh's roots.
        pub trust_bundle_name: String = "istio-ca-root-cert".to_owned(),
        /// Tokens of workloads.
        pub sds: Sds = Sds::default(),
        /// Exchange of tokens.
        pub sts: Sts = Sts::default(),
        /// Mount certificates from Secrets, as very old releases did.
        pub mount_mtls_certs: bool = false,
        /// Capture by nftables.
        pub native_nftables: bool = false,
        /// The proxy.
        pub proxy: Proxy = Proxy::default(),
        /// The init container.
        #[serde(rename = "proxy_init")]
        pub proxy_init: ProxyInit = ProxyInit::default(),
    }

    /// Logs.
    pub struct Logging {
        /// `SCOPE:LEVEL`.
        pub level: String = "default:info".to_owned(),
    }

    /// Several clusters.
    pub struct MultiCluster {
        /// Name of this cluster.
        pub cluster_name: String = String::new(),
    }

    /// Tokens of workloads.
    pub struct Sds {
        /// The token.
        pub token: Token = Token::default(),
    }

    /// A token.
    pub struct Token {
        /// Whom it is for.
        pub aud: String = "istio-ca".to_owned(),
    }

    /// Exchange of tokens.
    pub struct Sts {
        /// Port.
        #[serde(deserialize_with = "scalar")]
        pub service_port: String = String::new(),
    }

    /// The proxy.
    pub struct Proxy {
        /// Name of the image below `hub`, or a whole reference with a slash in it.
        pub image: String = "proxy".to_owned(),
        /// Domain of the cluster.
        pub cluster_domain: String = "cluster.local".to_owned(),
        /// Outbound ranges to capture.
        #[serde(rename = "includeIPRanges", deserialize_with = "scalar")]
        pub include_ip_ranges: String = "*".to_owned(),
        /// Outbound ranges not to capture.
        #[serde(rename = "excludeIPRanges", deserialize_with = "scalar")]
        pub exclude_ip_ranges: String = String::new(),
        /// Inbound ports to capture.
        #[serde(deserialize_with = "scalar")]
        pub include_inbound_ports: String = "*".to_owned(),
        /// Inbound ports not to capture.
        #[serde(deserialize_with = "scalar")]
        pub exclude_inbound_ports: String = String::new(),
        /// Outbound ports to capture in all ranges.
        #[serde(deserialize_with = "scalar")]
        pub include_outbound_ports: String = String::new(),
        /// Outbound ports not to capture.
        #[serde(deserialize_with = "scalar")]
        pub exclude_outbound_ports: String = String::new(),
        /// Log level.
        pub log_level: String = "warning".to_owned(),
        /// Log levels of components.
        pub component_log_level: String = "misc:error".to_owned(),
        /// Run privileged.
        pub privileged: bool = false,
        /// May listen on ports below 1024.
        #[serde(deserialize_with = "scalar")]
        pub cap_net_bind_service: String = String::new(),
        /// Port of health and merged metrics.
        #[serde(deserialize_with = "scalar")]
        pub status_port: String = "15020".to_owned(),
        /// Probe at the start.
        pub startup_probe: StartupProbe = StartupProbe::default(),
        /// Of the readiness probe, in seconds.
        pub readiness_initial_delay_seconds: u32 = 0,
        /// Of the readiness probe, in seconds.
        pub readiness_period_seconds: u32 = 15,
        /// Of the readiness probe.
        pub readiness_failure_threshold: u32 = 4,
        /// `resources` of the container; none if absent.
        pub resources: Option<Map<String, Value>> = None,
        /// `lifecycle` of the container.
        pub lifecycle: Option<Map<String, Value>> = None,
        /// `securityContext.seccompProfile` of the containers.
        pub seccomp_profile: Option<Map<String, Value>> = None,
        /// Start the application after the proxy.
        pub hold_application_until_proxy_starts: bool = false,
        /// File of outlier events.
        pub outlier_log_path: String = String::new(),
        /// Core dumps.
        pub enable_core_dump: bool = false,
    }

    /// Probe at the start.
    pub struct StartupProbe {
        /// Whether there is one.
        pub enabled: bool = true,
        /// Tries, one a second.
        pub failure_threshold: u32 = 600,
    }

    /// The init container.
    pub struct ProxyInit {
        /// As that of the proxy.
        pub image: String = "proxy".to_owned(),
        /// `resources` of the container; those of the proxy if absent or empty.
        pub resources: Option<Map<String, Value>> = None,
        /// Write the rules even if they are there.
        pub force_apply_iptables: bool = false,
    }

    /// The node agent.
    pub struct Cni {
        /// It captures traffic, so that Pods need no NET_ADMIN.
        pub enabled: bool = false,
        /// Chained behind the cluster's own plugin.
        pub chained: bool = true,
        /// `multus` where networks are attached by Multus.
        pub provider: String = "default".to_owned(),
    }

    /// Of the control plane.
    pub struct Pilot {
        /// The node agent.
        pub cni: Cni = Cni::default(),
    }

    /// Of injection.
    pub struct Webhook {
        /// The agent answers the probes of applications.
        #[serde(rename = "rewriteAppHTTPProbe")]
        pub rewrite_app_http_probe: bool = true,
    }
}

impl Values {
    /// The chart's own, which give the proxy resources.
    #[must_use]
    pub fn of_the_chart() -> Self {
        let mut values = Values::default();
        let resources = json!({
            "requests": {"cpu": "10m", "memory": "40Mi"},
            "limits": {"cpu": "2000m", "memory": "1024Mi"},
        });
        values.global.proxy.resources = resources.as_object().cloned();
        values
    }

    /// Whether Pods are captured by the node agent.
    pub(super) fn cni(&self) -> Option<&Cni> {
        [&self.pilot.cni, &self.istio_cni].into_iter().find(|cni| cni.enabled)
    }

    /// What is set and has no effect, with why.
    pub(super) fn idle(&self) -> impl Iterator<Item = &'static str> {
        let global = &self.global;
        [
            (
                !global.sts.service_port.is_empty() && global.sts.service_port != "0",
                "global.sts.servicePort: is not supported: the proxy exchanges no tokens",
            ),
            (
                global.log_as_json,
                "global.logAsJson: the proxy logs as text; the init container and the control plane log as JSON",
            ),
            (
                global.native_nftables,
                "global.nativeNftables: is not supported; iptables (also iptables-nft) does the same",
            ),
            (
                global.mount_mtls_certs,
                "global.mountMtlsCerts: is not supported: certificates come from the control plane",
            ),
            (
                global.ca_name == "GkeWorkloadCertificate",
                "global.caName: GkeWorkloadCertificate is not supported: certificates come from the control plane",
            ),
            (
                global.jwt_policy != "third-party-jwt",
                "global.jwtPolicy: only third-party-jwt is supported: workloads prove themselves by tokens for this mesh",
            ),
            (
                !global.proxy.outlier_log_path.is_empty(),
                "global.proxy.outlierLogPath: is not supported; ejections are in the metrics",
            ),
            (global.proxy.enable_core_dump, "global.proxy.enableCoreDump: is not supported"),
        ]
        .into_iter()
        .filter_map(|(set, text)| set.then_some(text))
    }
}

/// Text, number or boolean, as values are often written without quotes.
fn scalar<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        _ => Err(serde::de::Error::custom("expected a text or a number")),
    }
}

/// Names, or maps with a `name`.
fn secret_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Name(String),
        Object { name: String },
    }
    let list: Vec<Entry> = Vec::deserialize(from)?;
    Ok(list
        .into_iter()
        .map(|entry| match entry {
            Entry::Name(name) | Entry::Object { name } => name,
        })
        .collect())
}
