//! Settings of agent mode: checked, with defaults filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mesh_api::names::{self, NodeId, NodeKind, SpiffeId};
use serde_json::{Map, Value};

use super::environment::Environment;
use super::injected;
use super::metadata::{Pod, metadata};
use super::proxy_config::{ProxyConfig, parse_duration};
use super::stats;
use crate::admin::{AppMetrics, AppProbes};
use crate::cli::AgentArgs;
use crate::tls::Identity;
use crate::xds::{Roots, Target};

/// The injector's volume for what outlives a container.
const DATA_DIR: &str = "/var/lib/istio/data";
/// Requested lifetime of certificates, `SECRET_TTL`.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Sidecar or gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Beside an application.
    Sidecar,
    /// A gateway.
    Router,
}

/// Ports of the agent's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Admin API, on loopback.
    pub admin: u16,
    /// Readiness.
    pub readiness: u16,
    /// Proxy metrics.
    pub metrics: u16,
    /// Merged metrics.
    pub status: u16,
}

/// Everything that agent mode knows.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Node id.
    pub id: NodeId,
    /// All addresses of the pod; the first is the node id's.
    pub ips: Vec<IpAddr>,
    /// `node.cluster`: canonical service and namespace.
    pub service: String,
    /// The node's metadata.
    pub metadata: Map<String, Value>,
    /// Who we are to the mesh.
    pub identity: SpiffeId,
    /// The control plane.
    pub xds: Target,
    /// The certificate authority.
    pub ca: Target,
    /// Requested lifetime of certificates.
    pub ttl: Duration,
    /// Our certificate, once there is one: presented to the control plane.
    pub certificate: Arc<ArcSwapOption<Identity>>,
    /// Worker threads, 0 for one a core.
    pub concurrency: u32,
    /// Longest time that draining takes.
    pub drain: Duration,
    /// Nothing has to be open for this long before draining ends earlier.
    pub quiet: Duration,
    /// Ports.
    pub ports: Ports,
    /// The application's own metrics.
    pub app_metrics: Option<AppMetrics>,
    /// What to ask the application on the kubelet's behalf.
    pub app_probes: AppProbes,
    /// Where to connect to, to see that the pod's traffic is captured; `None` where that is not to be seen.
    pub capture_proof: Option<SocketAddr>,
    /// Where the last good configuration is kept.
    pub data_dir: Option<PathBuf>,
    /// Answer names of the mesh on 15053.
    pub dns_capture: bool,
    /// What was read and is of no effect, or could not be read.
    pub warnings: Vec<String>,
}

impl Agent {
    /// Reads the environment; all errors at once.
    ///
    /// # Errors
    /// One text a variable that is missing or wrong.
    pub fn new(role: Role, args: &AgentArgs, environment: &Environment) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let config = ProxyConfig::parse(environment.get("PROXY_CONFIG")).map_err(|e| errors.extend(e));
        let mut environment = environment.clone();
        if let Ok(config) = &config {
            for (name, value) in &config.proxy_metadata {
                environment.set_default(name, value);
            }
        }
        let environment = &environment;
        let mut required = |name: &str| match environment.get(name) {
            Some(value) => value.to_owned(),
            None => {
                errors.push(format!("{name} is not set"));
                String::new()
            }
        };
        let (pod, namespace) = (required("POD_NAME"), required("POD_NAMESPACE"));
        let ips = addresses(environment).map_err(|e| errors.push(e)).unwrap_or_default();
        let mut warnings = injected::warnings(environment);
        let app_probes = match (environment.get("ISTIO_KUBE_APP_PROBERS"), ips.first()) {
            (Some(text), Some(ip)) => {
                let target = match environment.get("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION") {
                    Some("true") if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
                    Some("true") => Ipv6Addr::LOCALHOST.into(),
                    _ => *ip,
                };
                AppProbes::parse(text, target, &mut warnings).map_err(|e| errors.extend(e))
            }
            _ => Ok(AppProbes::default()),
        };
        let (Ok(config), Ok(app_probes), [ip, ..], []) = (config, app_probes, ips.as_slice(), errors.as_slice()) else {
            if errors.is_empty() {
                errors.push("INSTANCE_IP is not set".to_owned());
            }
            return Err(errors);
        };
        let agent = Self::complete(role, args, environment, &config, &pod, &namespace, *ip, &ips);
        let mut agent = agent.map_err(|e| vec![e])?;
        agent.app_probes = app_probes;
        agent.warnings.extend(warnings);
        Ok(agent)
    }

    #[allow(clippy::too_many_arguments, reason = "the checked parts of one environment")]
    fn complete(
        role: Role,
        args: &AgentArgs,
        environment: &Environment,
        config: &ProxyConfig,
        pod: &str,
        namespace: &str,
        ip: IpAddr,
        ips: &[IpAddr],
    ) -> Result<Self, String> {
        let var = |name: &str, default: &str| environment.get(name).unwrap_or(default).to_owned();
        let mut warnings: Vec<String> = config.idle.iter().map(|why| format!("PROXY_CONFIG: {why}")).collect();
        let ports = Ports {
            admin: config.admin_port,
            readiness: port(environment, "ENVOY_STATUS_PORT", names::port::READINESS)?,
            metrics: port(environment, "ENVOY_PROMETHEUS_PORT", names::port::PROXY_METRICS)?,
            status: config.status_port,
        };
        let identity = SpiffeId {
            trust_domain: var("TRUST_DOMAIN", names::DEFAULT_TRUST_DOMAIN),
            namespace: namespace.to_owned(),
            service_account: var("SERVICE_ACCOUNT", "default"),
        };
        let facts = Pod {
            name: pod,
            namespace,
            service_account: &identity.service_account,
            ips,
        };
        let metadata = metadata(&facts, environment, config, &ports, &mut warnings);
        warnings.extend(stats::warnings(&metadata, ips));
        let certificate = Arc::new(ArcSwapOption::empty());
        let usual_roots = injected::roots(environment)?;
        let target = |address: &str, roots: &str, present: bool| {
            let (host, port) = host_port(address)?;
            let plaintext = config.plaintext || port == names::port::XDS_PLAINTEXT;
            Ok::<_, String>(Target {
                // A certificate cannot name every address under which the control plane may be reached.
                server_name: environment
                    .get("ISTIOD_SAN")
                    .map(str::to_owned)
                    .or_else(|| host.parse::<IpAddr>().is_err().then(|| host.clone()))
                    .unwrap_or_else(|| format!("istiod.{}.svc", names::ROOT_NAMESPACE)),
                host,
                port,
                roots: (!plaintext).then(|| Roots::named(&var(roots, usual_roots))),
                token: Some(injected::token(environment)),
                certificate: present.then(|| certificate.clone()),
                cluster_id: metadata.get("CLUSTER_ID").and_then(Value::as_str).map(str::to_owned),
            })
        };
        let kind = match role {
            Role::Sidecar => NodeKind::Sidecar,
            Role::Router => NodeKind::Router,
        };
        let (drain, quiet) = injected::drain(environment, config)?;
        let drain = args.drain_time_s.map_or(drain, Duration::from_secs);
        let capture_proof = injected::proof(role, environment, &metadata, ip, &mut warnings);
        Ok(Agent {
            id: NodeId {
                kind,
                ip,
                pod: pod.to_owned(),
                namespace: namespace.to_owned(),
                domain: args
                    .domain
                    .clone()
                    .filter(|d| !d.is_empty())
                    .unwrap_or_else(|| format!("{namespace}.svc.cluster.local")),
            },
            ips: ips.to_vec(),
            service: service(&metadata, namespace),
            xds: target(&config.discovery_address, "XDS_ROOT_CA", true)?,
            ca: target(
                environment.get("CA_ADDR").unwrap_or(&config.discovery_address),
                "CA_ROOT_CA",
                false,
            )?,
            ttl: environment.get("SECRET_TTL").and_then(parse_duration).unwrap_or(TTL),
            certificate,
            concurrency: match args.concurrency.or(config.concurrency) {
                Some(number) => number,
                None => injected::concurrency(role, environment)?,
            },
            drain,
            quiet: quiet.min(drain),
            ports,
            app_metrics: environment
                .get("ISTIO_PROMETHEUS_ANNOTATIONS")
                .and_then(|text| app_metrics(text, &ports, &mut warnings)),
            app_probes: AppProbes::default(),
            capture_proof,
            data_dir: args
                .data_dir
                .clone()
                .or_else(|| Some(PathBuf::from(DATA_DIR)).filter(|d| d.is_dir())),
            dns_capture: environment.get("ISTIO_META_DNS_CAPTURE").is_some_and(|v| v == "true"),
            identity,
            metadata,
            warnings,
        })
    }

    /// Address for ports that others reach: of both families as soon as the pod has IPv6.
    pub fn wildcard(&self) -> IpAddr {
        if self.ips.iter().any(IpAddr::is_ipv6) {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        }
    }

    /// Addresses of ports for this pod alone: captured packets go to the loopback address of their own family.
    pub fn loopbacks(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.wildcard().is_ipv6().then_some(Ipv6Addr::LOCALHOST.into());
        std::iter::once(Ipv4Addr::LOCALHOST.into()).chain(v6)
    }
}

/// All addresses of the pod; the first is the one that the node id shows.
fn addresses(environment: &Environment) -> Result<Vec<IpAddr>, String> {
    let mut out: Vec<IpAddr> = Vec::new();
    for name in ["INSTANCE_IP", "INSTANCE_IPS"] {
        for text in environment
            .get(name)
            .unwrap_or_default()
            .split(',')
            .filter(|t| !t.is_empty())
        {
            let ip = text
                .trim()
                .parse()
                .map_err(|_| format!("{name}: {text:?} is no IP address"))?;
            if !out.contains(&ip) {
                out.push(ip);
            }
        }
    }
    Ok(out)
}

fn port(environment: &Environment, name: &str, default: u16) -> Result<u16, String> {
    environment.get(name).map_or(Ok(default), |text| {
        text.parse().map_err(|_| format!("{name}: {text:?} is no port"))
    })
}

fn host_port(address: &str) -> Result<(String, u16), String> {
    let bad = || format!("{address:?} is no HOST:PORT");
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(bad());
    }
    Ok((host.to_owned(), port.parse().map_err(|_| bad())?))
}

/// `node.cluster`: the canonical service with its namespace.
fn service(metadata: &Map<String, Value>, namespace: &str) -> String {
    let label = |key: &str| metadata.get("LABELS")?.get(key)?.as_str();
    let name = label(names::label::CANONICAL_NAME)
        .or_else(|| label("app.kubernetes.io/name"))
        .or_else(|| label("app"))
        .unwrap_or("istio-proxy");
    format!("{name}.{namespace}")
}

/// The `prometheus.io/*` annotations, as the injector hands them over.
fn app_metrics(text: &str, ports: &Ports, warnings: &mut Vec<String>) -> Option<AppMetrics> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(e) => {
            warnings.push(format!("ISTIO_PROMETHEUS_ANNOTATIONS: no JSON: {e}"));
            return None;
        }
    };
    let field = |key: &str| value.get(key).and_then(Value::as_str).filter(|v| !v.is_empty());
    if field("scrape") == Some("false") {
        return None;
    }
    let port = match field("port").map(|text| (text, text.parse())) {
        None => 80,
        Some((_, Ok(port))) => port,
        Some((text, Err(_))) => {
            warnings.push(format!(
                "ISTIO_PROMETHEUS_ANNOTATIONS: port: {text:?} is no port; the application's metrics are not merged: \
                 mend the annotation prometheus.io/port"
            ));
            return None;
        }
    };
    if [ports.status, ports.metrics, ports.admin, ports.readiness].contains(&port) {
        warnings.push(format!(
            "ISTIO_PROMETHEUS_ANNOTATIONS: port {port} is the proxy's own; the application's metrics are not merged: \
             mend the annotation prometheus.io/port"
        ));
        return None;
    }
    Some(AppMetrics {
        port,
        path: field("path").unwrap_or("/metrics").to_owned(),
    })
}
