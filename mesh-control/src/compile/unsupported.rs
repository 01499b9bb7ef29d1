//! What an object says and what no proxy is told yet.
//!
//! Each kind has a list of the fields that the compile step reads. Whatever an object sets beside them is reported with its
//! path, so that nothing is dropped silently: a field that is added to a kind is reported until somebody lists it here.

use mesh_api::istio::{AnyObject, Resolution};
use mesh_api::mesh_config::MeshConfig;
use serde::Serialize;
use serde_json::Value;

use super::Warning;

const VIRTUAL_SERVICE: &[&str] = &[
    "hosts",
    "gateways",
    "exportTo",
    "http[].name",
    "http[].match[].name",
    "http[].match[].uri",
    "http[].match[].scheme",
    "http[].match[].method",
    "http[].match[].authority",
    "http[].match[].headers",
    "http[].match[].withoutHeaders",
    "http[].match[].queryParams",
    "http[].match[].port",
    "http[].match[].sourceLabels",
    "http[].match[].sourceNamespace",
    "http[].match[].gateways",
    "http[].match[].ignoreUriCase",
    "http[].route",
    "http[].redirect",
    "http[].directResponse",
    "http[].rewrite",
    "http[].timeout",
    "http[].retries.attempts",
    "http[].retries.perTryTimeout",
    "http[].retries.retryOn",
    "http[].retries.retryIgnorePreviousHosts",
    "http[].retries.backoff",
    "http[].fault.delay.fixedDelay",
    "http[].fault.delay.percentage",
    "http[].fault.delay.percent",
    "http[].fault.abort.httpStatus",
    "http[].fault.abort.grpcStatus",
    "http[].fault.abort.percentage",
    "http[].mirror",
    "http[].mirrors",
    "http[].mirrorPercent",
    "http[].mirrorPercentage",
    "http[].corsPolicy",
    "http[].headers",
    "tls",
    "tcp[].match[].destinationSubnets",
    "tcp[].match[].port",
    "tcp[].match[].sourceLabels",
    "tcp[].match[].sourceNamespace",
    "tcp[].match[].gateways",
    "tcp[].route",
];

/// Of a DestinationRule around its traffic policies.
const DESTINATION_RULE: &[&str] = &[
    "host",
    "exportTo",
    "workloadSelector",
    "subsets[].name",
    "subsets[].labels",
];

/// Where a DestinationRule has traffic policies.
const POLICIES: &[&str] = &[
    "trafficPolicy",
    "trafficPolicy.portLevelSettings[]",
    "subsets[].trafficPolicy",
    "subsets[].trafficPolicy.portLevelSettings[]",
];

/// Of each traffic policy.
const TRAFFIC_POLICY: &[&str] = &[
    "port",
    "loadBalancer.simple",
    "connectionPool.tcp",
    "connectionPool.http.http1MaxPendingRequests",
    "connectionPool.http.http2MaxRequests",
    "connectionPool.http.maxRequestsPerConnection",
    "connectionPool.http.maxRetries",
    "connectionPool.http.idleTimeout",
    "connectionPool.http.h2UpgradePolicy",
    "connectionPool.http.useClientProtocol",
    "connectionPool.http.maxConcurrentStreams",
    "tls.mode",
    "tls.clientCertificate",
    "tls.privateKey",
    "tls.caCertificates",
    "tls.credentialName",
    "tls.subjectAltNames",
    "tls.sni",
    "tls.insecureSkipVerify",
];

const GATEWAY: &[&str] = &[
    "selector",
    "servers[].name",
    "servers[].port.number",
    "servers[].port.protocol",
    "servers[].port.name",
    "servers[].hosts",
    "servers[].bind",
    "servers[].tls.httpsRedirect",
    "servers[].tls.mode",
    "servers[].tls.serverCertificate",
    "servers[].tls.privateKey",
    "servers[].tls.caCertificates",
    "servers[].tls.credentialName",
    "servers[].tls.credentialNames",
    "servers[].tls.tlsCertificates[].serverCertificate",
    "servers[].tls.tlsCertificates[].privateKey",
    "servers[].tls.caCertCredentialName",
    "servers[].tls.subjectAltNames",
    "servers[].tls.minProtocolVersion",
    "servers[].tls.maxProtocolVersion",
    "servers[].tls.cipherSuites",
];

const SERVICE_ENTRY: &[&str] = &[
    "hosts",
    "addresses",
    "ports",
    "location",
    "resolution",
    "endpoints[].address",
    "endpoints[].ports",
    "endpoints[].labels",
    "endpoints[].locality",
    "endpoints[].weight",
    "endpoints[].serviceAccount",
    "workloadSelector",
    "exportTo",
    "subjectAltNames",
];

const WORKLOAD_ENTRY: &[&str] = &["address", "ports", "labels", "locality", "weight", "serviceAccount"];

const PEER_AUTHENTICATION: &[&str] = &["selector", "mtls", "portLevelMtls"];

/// The fields of an object that are set and not in force yet, and kinds that are read and not compiled yet.
pub fn unsupported(object: &AnyObject) -> Vec<Warning> {
    let name = format!("{} {}/{}", object.kind(), object.namespace(), object.name());
    let whole = |consequence: &str| {
        vec![Warning {
            object: name.clone(),
            field: String::new(),
            message: format!("{} objects are read and not in force yet: {consequence}", object.kind()),
        }]
    };
    match object {
        AnyObject::VirtualService(o) => fields(&name, &o.spec, |p| of_list(VIRTUAL_SERVICE, p)),
        AnyObject::DestinationRule(o) => fields(&name, &o.spec, of_destination_rule),
        AnyObject::Gateway(o) => fields(&name, &o.spec, |p| of_list(GATEWAY, p)),
        AnyObject::ServiceEntry(o) => {
            let mut found = fields(&name, &o.spec, |p| of_list(SERVICE_ENTRY, p));
            if o.spec.resolution == Resolution::DynamicDns {
                found.push(Warning {
                    object: name.clone(),
                    field: "spec.resolution".to_owned(),
                    message: "DYNAMIC_DNS is not in force yet: connections go where the caller resolved the name, as with NONE"
                        .to_owned(),
                });
            }
            found
        }
        AnyObject::WorkloadEntry(o) => fields(&name, &o.spec, |p| of_list(WORKLOAD_ENTRY, p)),
        AnyObject::PeerAuthentication(o) => fields(&name, &o.spec, |p| of_list(PEER_AUTHENTICATION, p)),
        AnyObject::AuthorizationPolicy(_) => whole("it allows and refuses nothing"),
        AnyObject::RequestAuthentication(_) => whole("tokens are passed on unchecked"),
        AnyObject::EnvoyFilter(_) => whole("its patches are not applied"),
        AnyObject::Telemetry(_) => whole("metrics, logs and traces are as without it"),
        AnyObject::Sidecar(_) => whole("the proxies listen on and see what they do without it"),
        AnyObject::ProxyConfig(_) => whole("proxies start as without it"),
        AnyObject::WorkloadGroup(_) => whole("workloads do not register by themselves; write WorkloadEntry objects"),
        // Kubernetes' objects say much that is none of the mesh's business.
        _ => Vec::new(),
    }
}

/// Fields of the mesh configuration that are in force: read here, by the proxies' agents, or by the certificate authority.
const MESH_CONFIG: &[&str] = &[
    "proxyListenPort",
    "proxyInboundListenPort",
    "connectTimeout",
    "protocolDetectionTimeout",
    "tcpKeepalive",
    "accessLogFile",
    "accessLogFormat",
    "accessLogEncoding",
    "disableEnvoyListenerLog",
    "defaultConfig",
    "outboundTrafficPolicy",
    "enableAutoMtls",
    "trustDomain",
    "trustDomainAliases",
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "defaultDestinationRuleExportTo",
    "rootNamespace",
    "dnsRefreshRate",
    "h2UpgradePolicy",
    "pathNormalization",
    "defaultHttpRetryPolicy",
    "enablePrometheusMerge",
];

/// The fields of the mesh configuration that differ from Istio's defaults and are not in force yet.
pub fn unsupported_mesh(mesh: &MeshConfig) -> Vec<Warning> {
    let as_map = |mesh: &MeshConfig| match serde_json::to_value(mesh) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let defaults = as_map(&MeshConfig::default());
    let retries = mesh.default_http_retry_policy.as_ref();
    let remote = retries.and_then(|r| r.retry_remote_localities).is_some();
    let inside = remote.then(|| "defaultHttpRetryPolicy.retryRemoteLocalities".to_owned());
    as_map(mesh)
        .into_iter()
        .filter(|(key, value)| defaults.get(key) != Some(value) && !MESH_CONFIG.contains(&key.as_str()))
        .map(|(field, _)| field)
        .chain(inside)
        .map(|field| Warning {
            object: "MeshConfig".to_owned(),
            field,
            message: "is read and not in force yet; it has no effect".to_owned(),
        })
        .collect()
}

/// How a path stands to what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It and all below is read.
    All,
    /// Something below it is read.
    Inside,
    /// Nothing of it is read.
    None,
}

fn of_list(list: &[&str], path: &str) -> Use {
    let mut inside = false;
    for known in list {
        if *known == path {
            return Use::All;
        }
        inside |= below(known, path).is_some();
    }
    if inside { Use::Inside } else { Use::None }
}

/// What stands in `path` after `around` and a separator.
fn below<'a>(path: &'a str, around: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(around)?;
    rest.strip_prefix('.').or_else(|| rest.starts_with('[').then_some(rest))
}

fn of_destination_rule(path: &str) -> Use {
    let mut inside = false;
    // The innermost policy around the path decides.
    for policy in POLICIES.iter().rev() {
        if path == *policy {
            return Use::Inside;
        }
        if let Some(rest) = below(path, policy) {
            match of_list(TRAFFIC_POLICY, rest) {
                Use::None => {}
                found => return found,
            }
        }
        inside |= below(policy, path).is_some();
    }
    match of_list(DESTINATION_RULE, path) {
        Use::None if inside => Use::Inside,
        found => found,
    }
}

/// Walks everything that is set.
fn fields<T: Serialize>(name: &str, spec: &T, reads: impl Fn(&str) -> Use) -> Vec<Warning> {
    let Ok(value) = serde_json::to_value(spec) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let Value::Object(map) = &value else { return found };
    for (key, child) in map {
        walk(child, key, format!("spec.{key}"), &reads, &mut |field| {
            found.push(Warning {
                object: name.to_owned(),
                field,
                message: "is read and not in force yet; it has no effect".to_owned(),
            });
        });
    }
    found
}

/// `pattern` has `[]` for indices, `path` the indices themselves.
fn walk(value: &Value, pattern: &str, path: String, reads: &dyn Fn(&str) -> Use, report: &mut dyn FnMut(String)) {
    // A list stands for its items.
    if let Value::Array(items) = value {
        if reads(pattern) == Use::All {
            return;
        }
        for (index, item) in items.iter().enumerate() {
            walk(item, &format!("{pattern}[]"), format!("{path}[{index}]"), reads, report);
        }
        return;
    }
    match (reads(pattern), value) {
        (Use::All, _) => {}
        (Use::Inside, Value::Object(map)) => {
            for (key, child) in map {
                walk(
                    child,
                    &format!("{pattern}.{key}"),
                    format!("{path}.{key}"),
                    reads,
                    report,
                );
            }
        }
        _ => report(path),
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::istio::{Kind, parse};
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "reads better at the callers")]
    fn reported(kind: Kind, spec: Value) -> Vec<String> {
        let object = parse(
            &kind.api_version(),
            kind.as_str(),
            json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": "a", "namespace": "b"}, "spec": spec}),
        )
        .expect("a readable object");
        unsupported(&object).into_iter().map(|w| w.field).collect()
    }

    #[test]
    fn fields_that_nobody_reads_are_named() {
        let spec = json!({
            "host": "c",
            "trafficPolicy": {
                "loadBalancer": {"simple": "RANDOM", "localityLbSetting": {"enabled": true}},
                "outlierDetection": {"interval": "5s"},
                "portLevelSettings": [{"port": {"number": 80}, "outlierDetection": {"interval": "5s"}}],
            },
            "subsets": [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"loadBalancer": {"consistentHash": {"useSourceIp": true}}}}],
        });
        assert_eq!(
            reported(Kind::DestinationRule, spec),
            [
                "spec.trafficPolicy.loadBalancer.localityLbSetting",
                "spec.trafficPolicy.outlierDetection",
                "spec.trafficPolicy.portLevelSettings[0].outlierDetection",
                "spec.subsets[0].trafficPolicy.loadBalancer.consistentHash",
            ]
        );
        let spec = json!({"hosts": ["c"], "http": [{"match": [{"uri": {"prefix": "/"}, "statPrefix": "x"}], "route": [{"destination": {"host": "c"}}]}]});
        assert_eq!(
            reported(Kind::VirtualService, spec),
            ["spec.http[0].match[0].statPrefix"]
        );
    }

    #[test]
    fn settings_of_the_mesh_are_looked_at_too() {
        let mesh = MeshConfig::from_yaml("accessLogFile: /dev/stdout\nproxyHttpPort: 15007\n").expect("readable");
        let fields: Vec<String> = unsupported_mesh(&mesh).into_iter().map(|w| w.field).collect();
        assert_eq!(fields, ["proxyHttpPort"]);
        assert_eq!(unsupported_mesh(&MeshConfig::default()), []);
    }

    #[test]
    fn what_is_read_is_not_reported() {
        let spec = json!({
            "selector": {"istio": "ingressgateway"},
            "servers": [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"],
                "tls": {"mode": "SIMPLE", "credentialName": "c"}}],
        });
        assert_eq!(reported(Kind::Gateway, spec), Vec::<String>::new());
    }
}
