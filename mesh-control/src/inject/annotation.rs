//! Annotations that people write on Pods, and what they may hold.

use std::collections::BTreeMap;

use mesh_api::mesh_config::ProxyConfig;

/// What injection did: containers, volumes, revision.
pub const STATUS: &str = "sidecar.istio.io/status";
/// Containers of the proxy as the user wrote them, kept for the next injection.
pub const OVERRIDES: &str = "proxy.istio.io/overrides";
/// Templates by name, separated by commas.
pub const TEMPLATES: &str = "inject.istio.io/templates";
/// The control plane's revision that injected.
pub const REVISION: &str = "istio.io/rev";
pub(super) const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
pub(super) const DEFAULT_LOGS_CONTAINER: &str = "kubectl.kubernetes.io/default-logs-container";
pub(super) const REWRITE_PROBES: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
pub(super) const STATUS_PORT: &str = "status.sidecar.istio.io/port";
pub(super) const INITIAL_DELAY: &str = "readiness.status.sidecar.istio.io/initialDelaySeconds";
pub(super) const PERIOD: &str = "readiness.status.sidecar.istio.io/periodSeconds";
pub(super) const FAILURE_THRESHOLD: &str = "readiness.status.sidecar.istio.io/failureThreshold";
pub(super) const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
pub(super) const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
pub(super) const CPU: &str = "sidecar.istio.io/proxyCPU";
pub(super) const CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
pub(super) const MEMORY: &str = "sidecar.istio.io/proxyMemory";
pub(super) const MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
pub(super) const NATIVE_SIDECAR: &str = "sidecar.istio.io/nativeSidecar";
pub(super) const BOOTSTRAP_OVERRIDE: &str = "sidecar.istio.io/bootstrapOverride";
pub(super) const DISCOVERY_ADDRESS: &str = "sidecar.istio.io/discoveryAddress";
pub(super) const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
pub(super) const COMPONENT_LOG_LEVEL: &str = "sidecar.istio.io/componentLogLevel";
pub(super) const AGENT_LOG_LEVEL: &str = "sidecar.istio.io/agentLogLevel";
pub(super) const USER_VOLUME: &str = "sidecar.istio.io/userVolume";
pub(super) const USER_VOLUME_MOUNT: &str = "sidecar.istio.io/userVolumeMount";
pub(super) const CAP_NET_BIND_SERVICE: &str = "sidecar.istio.io/capNetBindService";
pub(super) const INIT_BEFORE_PROXY: &str = "sidecar.istio.io/init-containers-before-proxy";
pub(super) const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
pub(super) const KUBEVIRT_INTERFACES: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";
pub(super) const REROUTE_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
pub(super) const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";
pub(super) const MULTUS_NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
pub(super) use mesh_api::names::annotation::{
    EXCLUDE_INBOUND_PORTS, EXCLUDE_OUTBOUND_PORTS, EXCLUDE_OUTBOUND_RANGES, INCLUDE_INBOUND_PORTS,
    INCLUDE_OUTBOUND_PORTS, INCLUDE_OUTBOUND_RANGES, INTERCEPTION_MODE, PROXY_CONFIG,
};

type Check = fn(&str) -> Result<(), String>;

/// What is checked before a Pod is injected: a Pod with a wrong value would run with its traffic not where its owner meant.
const CHECKS: &[(&str, Check)] = &[
    (INTERCEPTION_MODE, interception_mode),
    (STATUS_PORT, port),
    (INITIAL_DELAY, number),
    (PERIOD, number),
    (FAILURE_THRESHOLD, number),
    (INCLUDE_OUTBOUND_RANGES, ranges_or_all),
    (EXCLUDE_OUTBOUND_RANGES, ranges),
    (INCLUDE_INBOUND_PORTS, ports_or_all),
    (EXCLUDE_INBOUND_PORTS, ports),
    (INCLUDE_OUTBOUND_PORTS, ports),
    (EXCLUDE_OUTBOUND_PORTS, ports),
    (EXCLUDE_INTERFACES, interfaces),
    (KUBEVIRT_INTERFACES, interfaces),
    (REROUTE_INTERFACES, interfaces),
    (CPU, quantity),
    (CPU_LIMIT, quantity),
    (MEMORY, quantity),
    (MEMORY_LIMIT, quantity),
    (MERGE_METRICS, boolean),
    (USER_VOLUME, map_of_maps),
    (USER_VOLUME_MOUNT, map_of_maps),
    (PROXY_CONFIG, proxy_config),
];

/// What is set and nothing acts on, with what to do instead.
const IDLE: &[(&str, &str)] = &[
    (
        BOOTSTRAP_OVERRIDE,
        "the proxy makes its bootstrap itself; the ConfigMap is mounted and not read. Use an EnvoyFilter",
    ),
    (
        "readiness.status.sidecar.istio.io/applicationPorts",
        "is deprecated and not read; write a readinessProbe into the container",
    ),
    ("sidecar.istio.io/enableCoreDump", "is not supported; remove it"),
    (
        "sidecar.istio.io/statsCompression",
        "is not supported: metrics are sent as they are",
    ),
    (
        "sidecar.istio.io/statsFlushInterval",
        "is not supported: metrics are scraped, not flushed",
    ),
    ("sidecar.istio.io/statsEvictionInterval", "is not supported; remove it"),
    ("sidecar.istio.io/statsHistogramBins", "is not supported; remove it"),
];

/// Checks all annotations.
///
/// # Errors
/// One text for each wrong value, in the order of [`CHECKS`].
pub(super) fn check(annotations: &BTreeMap<String, String>) -> Result<(), Vec<String>> {
    let errors: Vec<String> = CHECKS
        .iter()
        .filter_map(|(name, check)| {
            let value = annotations.get(*name)?;
            let why = check(value).err()?;
            Some(format!("annotation {name}: {value:?} {why}"))
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// What is set and has no effect.
pub(super) fn idle(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = String> + '_ {
    IDLE.iter()
        .filter(|(name, _)| annotations.contains_key(*name))
        .map(|(name, why)| format!("annotation {name}: {why}"))
}

fn interception_mode(value: &str) -> Result<(), String> {
    match value {
        "REDIRECT" | "TPROXY" | "NONE" => Ok(()),
        _ => Err("is none of REDIRECT, TPROXY and NONE".to_owned()),
    }
}

fn number(value: &str) -> Result<(), String> {
    match value.parse::<u32>() {
        Ok(_) => Ok(()),
        Err(_) => Err("is no number of 0 or more".to_owned()),
    }
}

fn port(value: &str) -> Result<(), String> {
    match value.trim().parse::<u16>() {
        Ok(_) => Ok(()),
        Err(_) => Err("is no port from 0 to 65535".to_owned()),
    }
}

fn ports(value: &str) -> Result<(), String> {
    let list = value.trim();
    if list.is_empty() {
        return Ok(());
    }
    for part in list.split(',') {
        port(part).map_err(|_| format!("is no list of ports: {:?} is none", part.trim()))?;
    }
    Ok(())
}

fn ports_or_all(value: &str) -> Result<(), String> {
    if value == "*" { Ok(()) } else { ports(value) }
}

fn ranges(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    for part in value.split(',') {
        if part.parse::<ipnet::IpNet>().is_err() {
            return Err(format!("is no list of ranges: {part:?} is none; write 10.0.0.0/8"));
        }
    }
    Ok(())
}

fn ranges_or_all(value: &str) -> Result<(), String> {
    if value == "*" { Ok(()) } else { ranges(value) }
}

fn interfaces(value: &str) -> Result<(), String> {
    let bad = |name: &str| name.len() > 15 || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    match value.split(',').map(str::trim).find(|name| bad(name)) {
        None => Ok(()),
        Some(name) => Err(format!("is no list of interfaces: {name:?} is no name of one")),
    }
}

/// Kubernetes' amounts: a decimal number with a unit or an exponent.
fn quantity(value: &str) -> Result<(), String> {
    let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
    let end = digits
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(digits.len());
    let (digits, unit) = digits.split_at(end);
    let decimal = !digits.trim_matches('.').is_empty() && digits.matches('.').count() <= 1;
    let exponent = |unit: &str| {
        let power = unit.strip_prefix(['e', 'E'])?;
        power.parse::<i8>().ok()
    };
    const UNITS: &[&str] = &[
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    if decimal && (UNITS.contains(&unit) || exponent(unit).is_some()) {
        Ok(())
    } else {
        Err("is no quantity; write 100m or 128Mi".to_owned())
    }
}

/// Go's `ParseBool`.
pub(super) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn boolean(value: &str) -> Result<(), String> {
    match parse_bool(value) {
        Some(_) => Ok(()),
        None => Err("is neither true nor false".to_owned()),
    }
}

/// `{"NAME": {…}, …}` in JSON.
pub(super) type Named = serde_json::Map<String, serde_json::Value>;

pub(super) fn named(value: &str) -> Result<Named, String> {
    let help = || "is no JSON of the form {\"NAME\": {...}}".to_owned();
    let map: Named = serde_json::from_str(value).map_err(|_| help())?;
    if map.values().all(serde_json::Value::is_object) {
        Ok(map)
    } else {
        Err(help())
    }
}

fn map_of_maps(value: &str) -> Result<(), String> {
    named(value).map(|_| ())
}

fn proxy_config(value: &str) -> Result<(), String> {
    ProxyConfig::from_yaml(value).map(|_| ()).map_err(|errors| {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("is no ProxyConfig: {}", list.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        for (check, good, bad) in [
            (
                interception_mode as Check,
                &["REDIRECT", "TPROXY", "NONE"][..],
                &["redirect", ""][..],
            ),
            (number, &["0", "30"], &["-1", "1.5", "x"]),
            (port, &["0", "15020"], &["65536", "http", ""]),
            (ports, &["", "80, 443"], &["80,", "http", "*"]),
            (ports_or_all, &["*", "80"], &["80,*"]),
            (ranges, &["", "10.0.0.0/8,fd00::/8"], &["10.0.0.1", "10.0.0.0/33", "*"]),
            (ranges_or_all, &["*"], &["*,10.0.0.0/8"]),
            (interfaces, &["", "net1,net2"], &["a b", "much-too-long-a-name"]),
            (
                quantity,
                &["1", "0.5", "100m", "128Mi", "1e3", "1E", ".5"],
                &["", "m", "1..2", "1 Gi", "1Xi", "."],
            ),
            (boolean, &["true", "F", "0"], &["yes", ""]),
            (
                map_of_maps,
                &["{}", r#"{"v":{"emptyDir":{}}}"#],
                &["", "[]", r#"{"v":1}"#],
            ),
            (
                proxy_config,
                &["", "concurrency: 2"],
                &["concurency: 2", "concurrency: two"],
            ),
        ] {
            for value in good {
                assert_eq!(check(value), Ok(()), "{value}");
            }
            for value in bad {
                assert!(check(value).is_err(), "{value}");
            }
        }
    }

    #[test]
    fn errors_name_annotation_and_value() {
        let set = [("sidecar.istio.io/proxyCPU", "lots"), ("other", "?")];
        let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(
            check(&set),
            Err(vec![
                "annotation sidecar.istio.io/proxyCPU: \"lots\" is no quantity; write 100m or 128Mi".to_owned()
            ])
        );
    }
}
