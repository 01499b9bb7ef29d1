//! What injected pods carry in their environment beside names and addresses: where secrets are, how many threads, how to
//! end, and what of it is of no effect here.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::environment::Environment;
use super::proxy_config::{ProxyConfig, parse_duration};
use super::settings::Role;
use crate::listener::passthrough_address;

/// Where the projected token is, unless `FERROMESH_TOKEN_PATH` says otherwise.
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
/// The token that every pod has, for clusters without projected ones (`JWT_POLICY=first-party-jwt`).
const FIRST_PARTY_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Port at which nobody listens, as in Istio's check of the rules.
const NOBODY: u16 = 15002;
/// The kubelet ends the pod when its grace period is over, which the agent does not know.
const UNTIL_KILLED: Duration = Duration::from_secs(24 * 3600);
/// Nothing has to be open for this long before a draining proxy ends.
const QUIET: Duration = Duration::from_secs(2);

/// Variables of Istio's agent that ask for something which is not there.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    (
        "ISTIO_BOOTSTRAP_OVERRIDE",
        "the proxy makes its bootstrap itself; remove the annotation sidecar.istio.io/bootstrapOverride, or patch with an \
         EnvoyFilter",
    ),
    ("OUTPUT_CERTS", "keys and certificates are kept in memory only"),
    ("PROV_CERT", "the proxy always proves itself by its token first"),
    ("FILE_MOUNTED_CERTS", "certificates come from the mesh's authority only"),
    ("COMPLIANCE_POLICY", "the cryptography is not a certified module"),
    (
        "ENVOY_SECURE_MERGED_METRICS_PORT",
        "merged metrics are served on the status port only",
    ),
];

pub(super) fn warnings(environment: &Environment) -> Vec<String> {
    let mut out: Vec<String> = WITHOUT_EFFECT
        .iter()
        .filter(|(name, _)| environment.get(name).is_some_and(|v| v != "false"))
        .map(|(name, why)| format!("{name} has no effect: {why}"))
        .collect();
    if let Some(other) = environment.get("CA_PROVIDER").filter(|v| *v != "Citadel") {
        out.push(format!(
            "CA_PROVIDER: {other:?} is not implemented; certificates come from Istio's CA service at CA_ADDR"
        ));
    }
    out
}

/// File of the token that proves who we are.
pub(super) fn token(environment: &Environment) -> PathBuf {
    let usual = match environment.get("JWT_POLICY") {
        Some("first-party-jwt") => FIRST_PARTY_TOKEN,
        _ => TOKEN,
    };
    PathBuf::from(environment.get("FERROMESH_TOKEN_PATH").unwrap_or(usual))
}

/// File of the certificates that the control plane is trusted by, unless a variable names one.
pub(super) fn roots(environment: &Environment) -> Result<&'static str, String> {
    match environment.get("PILOT_CERT_PROVIDER") {
        None | Some("istiod") => Ok("/var/run/secrets/istio/root-cert.pem"),
        Some("kubernetes") => Ok("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"),
        Some("custom") => Ok("/etc/certs/root-cert.pem"),
        Some(other) => Err(format!(
            "PILOT_CERT_PROVIDER: {other:?} is not known; expected istiod, kubernetes or custom"
        )),
    }
}

/// Worker threads where nobody sets them: a gateway takes what its container may use, a sidecar has enough with one, which
/// costs its pod the least memory.
pub(super) fn concurrency(role: Role, environment: &Environment) -> Result<u32, String> {
    let limit = match environment.get("ISTIO_CPU_LIMIT") {
        Some(text) => text
            .parse::<u32>()
            .map_err(|_| format!("ISTIO_CPU_LIMIT: {text:?} is no whole number of cores"))?,
        None => 1,
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    Ok(match role {
        Role::Sidecar => 1,
        Role::Router => limit.clamp(1, cores),
    })
}

/// How long draining takes at most, and how long nothing has to be open.
pub(super) fn drain(environment: &Environment, config: &ProxyConfig) -> Result<(Duration, Duration), String> {
    let most = match environment.get("TERMINATION_DRAIN_DURATION_SECONDS") {
        Some(text) => parse_duration(&format!("{text}s"))
            .ok_or_else(|| format!("TERMINATION_DRAIN_DURATION_SECONDS: {text:?} is no number of seconds"))?,
        None => config.termination_drain,
    };
    if environment.get("EXIT_ON_ZERO_ACTIVE_CONNECTIONS") != Some("true") {
        return Ok((most, QUIET.min(most)));
    }
    let quiet = match environment.get("MINIMUM_DRAIN_DURATION") {
        Some(text) => {
            parse_duration(text).ok_or_else(|| format!("MINIMUM_DRAIN_DURATION: {text:?} is no duration such as 5s"))?
        }
        None => QUIET,
    };
    Ok((UNTIL_KILLED, quiet))
}

/// Where the proxy connects to, to see that traffic is captured; `None` where nothing is, or where the way of capture leads
/// only the application's ports to the proxy and there are none.
pub(super) fn proof(
    role: Role,
    environment: &Environment,
    metadata: &Map<String, Value>,
    ip: IpAddr,
    warnings: &mut Vec<String>,
) -> Option<SocketAddr> {
    let mode = environment.get("ISTIO_META_INTERCEPTION_MODE")?;
    if role != Role::Sidecar || !matches!(mode, "REDIRECT" | "TPROXY") {
        return None;
    }
    if environment.get("FERROMESH_PROVE_CAPTURE") == Some("false") {
        warnings.push(
            "FERROMESH_PROVE_CAPTURE=false: the proxy is ready even if the pod's traffic is not captured".to_owned(),
        );
        return None;
    }
    let mut port = NOBODY;
    if mode == "TPROXY" {
        let annotations = metadata.get("ANNOTATIONS");
        let ports = annotations.and_then(|a| a.get("traffic.sidecar.istio.io/includeInboundPorts"));
        let ports = ports.and_then(Value::as_str).unwrap_or("*").trim();
        if ports != "*" {
            port = ports.split(',').find_map(|p| p.trim().parse().ok())?;
        }
    }
    Some(SocketAddr::new(passthrough_address(ip), port))
}
