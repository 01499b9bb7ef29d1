//! What an object says and what no proxy is told yet.
//!
//! Each kind has a list of the fields that the compile step reads. Whatever an object sets beside them is reported with its
//! path, so that nothing is dropped silently: a field that is added to a kind is reported until somebody lists it here.

mod destination_rule;
mod gateway;
mod kubernetes;
mod mesh_config;
mod security;
mod service_entry;
mod sidecar;
mod virtual_service;

use mesh_api::istio::AnyObject;
use serde::Serialize;
use serde_json::Value;

use super::Warning;
use crate::store::envoy_filter::Filter;
pub use mesh_config::unsupported_mesh;

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
        AnyObject::VirtualService(o) => virtual_service::report(&name, &o.spec),
        AnyObject::DestinationRule(o) => destination_rule::report(&name, &o.spec),
        AnyObject::Gateway(o) => {
            let servers = o.spec.servers.iter().enumerate();
            let ports = servers.map(|(i, s)| (format!("spec.servers[{i}].port.protocol"), s.port.protocol.as_str()));
            let mut found = gateway::report(&name, &o.spec);
            found.extend(kubernetes::report_ports(&name, ports));
            found
        }
        AnyObject::ServiceEntry(o) => {
            let ports = o.spec.ports.iter().enumerate();
            let ports = ports.map(|(i, p)| (format!("spec.ports[{i}].protocol"), p.protocol.as_str()));
            let mut found = service_entry::report(&name, &o.spec);
            found.extend(kubernetes::report_ports(&name, ports));
            found
        }
        AnyObject::WorkloadEntry(o) => service_entry::report_workload(&name, &o.spec),
        AnyObject::PeerAuthentication(o) => security::report(&name, &o.spec),
        AnyObject::AuthorizationPolicy(_) => whole("it allows and refuses nothing"),
        AnyObject::RequestAuthentication(_) => whole("tokens are passed on unchecked"),
        AnyObject::EnvoyFilter(o) => {
            let found = Filter::read(o).findings.into_iter();
            let warning = |(field, message)| Warning {
                object: name.clone(),
                field,
                message,
            };
            found.map(warning).collect()
        }
        AnyObject::Telemetry(_) => whole("metrics, logs and traces are as without it"),
        AnyObject::Sidecar(o) => sidecar::report(&name, &o.spec),
        AnyObject::WorkloadGroup(o) => service_entry::report_group(&name, &o.spec),
        AnyObject::Service(o) => kubernetes::report_service(&name, &o.object),
        AnyObject::Pod(o) => kubernetes::report_pod(&name, &o.object),
        // Kubernetes' objects say much that is none of the mesh's business.
        _ => Vec::new(),
    }
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
                message: instead(&field).to_owned(),
                field,
            });
        });
    }
    found
}

/// Why a field has no effect, and what to do instead.
fn instead(field: &str) -> &'static str {
    let last = field.rsplit('.').next().unwrap_or(field);
    match last.split('[').next().unwrap_or(last) {
        "backendUtilization" => "is not in force: endpoints tell nobody how busy they are; write simple: LEAST_REQUEST",
        "zoneAwareLbSetting" => "is not in force: write localityLbSetting",
        "outlierDetectionHttpErrorCodes" => {
            "is not in force: codes from 500 on count as errors; write consecutive5xxErrors or consecutiveGatewayErrors"
        }
        "budgetInterval" => "is not in force: the budget counts the requests that are under way; remove it",
        "caCrl" => {
            "is not in force yet: certificates are taken until they expire; name authorities that issue short-lived ones"
        }
        "insecureSkipVerify" => {
            "is not in force: client certificates are always checked; write mode SIMPLE to take any client"
        }
        "caCertificates" => "has no effect here: write caCertificates beside tlsCertificates",
        "verifyCertificateHash" | "verifyCertificateSpki" => {
            "is not in force yet: any certificate that caCertificates vouch for is taken; write subjectAltNames"
        }
        "network" => "is not in force: there is one network, in which the address must be reachable; remove it",
        // Of a Sidecar.
        "tls" => "is not in force yet: no TLS but the mesh's own ends in the proxy; let the application end it",
        "h2UpgradePolicy" | "useClientProtocol" => {
            "has no effect towards the application, which is spoken to as the port's protocol says; write protocol: HTTP2"
        }
        "targetPort" => "has no effect, as in Istio; remove it",
        // Of a WorkloadGroup.
        "probe" => {
            "is not in force yet: nobody asks the workload whether it is well; stop its proxy when it is not, which takes it out"
        }
        "address" => "has no effect: an entry has the address of its proxy; remove it",
        _ => "is read and not in force yet; it has no effect",
    }
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
                "loadBalancer": {"simple": "RANDOM", "zoneAwareLbSetting": {"enabled": true}, "warmup": {"duration": "5s"}},
                "outlierDetection": {"interval": "5s", "outlierDetectionHttpErrorCodes": [429]},
                "retryBudget": {"percent": 10, "budgetInterval": "5s"},
                "tunnel": {"protocol": "POST", "targetHost": "a.example.com", "targetPort": 443},
                "portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE", "caCrl": "/crl"}}],
            },
            "subsets": [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"loadBalancer": {"backendUtilization": {}}}}],
        });
        assert_eq!(
            reported(Kind::DestinationRule, spec),
            [
                "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting",
                "spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[0]",
                "spec.trafficPolicy.portLevelSettings[0].tls.caCrl",
                "spec.trafficPolicy.retryBudget.budgetInterval",
                "spec.subsets[0].trafficPolicy.loadBalancer.backendUtilization",
                "spec.trafficPolicy.loadBalancer.warmup",
                "spec.trafficPolicy.tunnel.protocol",
            ]
        );
        let spec = json!({"hosts": ["c"], "http": [{"headers": {"request": {"set": {"x-a": "%NONE(x-b)%", "x-b": "100%% %REQ(x-c)%"}}}, "route": [{"destination": {"host": "c"}}]}], "tcp": [{"match": [{"sourceSubnet": "10.0.0.0/8"}], "route": [{"destination": {"host": "c"}}]}]});
        assert_eq!(
            reported(Kind::VirtualService, spec),
            [
                "spec.tcp[0].match[0].sourceSubnet",
                "spec.http[0].headers.request.set.x-a",
            ]
        );
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
