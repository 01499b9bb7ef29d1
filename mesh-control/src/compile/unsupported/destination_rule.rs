//! DestinationRules: traffic policies stand at four places of them.

use mesh_api::istio::DestinationRule;

use super::{Use, Warning, below, fields, of_list};

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

pub(super) fn report(name: &str, spec: &DestinationRule) -> Vec<Warning> {
    fields(name, spec, of_destination_rule)
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
