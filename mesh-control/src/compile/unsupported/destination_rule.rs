//! DestinationRules: traffic policies stand at four places of them.

use mesh_api::istio::{DestinationRule, LoadBalancerSettings, SimpleLb, TrafficPolicy};

use super::super::switch;
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

/// Of each traffic policy, if the proxy acts on it.
const SWITCHED: &[(bool, &[&str])] = &[
    (
        switch::OUTLIER,
        &[
            "outlierDetection.consecutive5xxErrors",
            "outlierDetection.consecutiveGatewayErrors",
            "outlierDetection.splitExternalLocalOriginErrors",
            "outlierDetection.consecutiveLocalOriginFailures",
            "outlierDetection.interval",
            "outlierDetection.baseEjectionTime",
            "outlierDetection.maxEjectionPercent",
            "outlierDetection.minHealthPercent",
            "loadBalancer.localityLbSetting.enabled",
            "loadBalancer.localityLbSetting.failover",
            "loadBalancer.localityLbSetting.failoverPriority",
        ],
    ),
    (switch::LOCALITY_WEIGHTS, &["loadBalancer.localityLbSetting.distribute"]),
    (
        switch::RETRY_BUDGET,
        &["retryBudget.percent", "retryBudget.minRetryConcurrency"],
    ),
    (switch::HASH, &["loadBalancer.consistentHash"]),
    (
        switch::SLOW_START,
        &["loadBalancer.warmup", "loadBalancer.warmupDurationSecs"],
    ),
    (switch::KEEPALIVE, &["connectionPool.http.http2KeepAlive"]),
    (switch::TUNNEL, &["tunnel"]),
    (switch::PROXY_PROTOCOL, &["proxyProtocol"]),
];

pub(super) fn report(name: &str, spec: &DestinationRule) -> Vec<Warning> {
    let mut found = fields(name, spec, of_destination_rule);
    found.extend(without_ramp(name, spec));
    found
}

/// Slow starts of algorithms that have none.
fn without_ramp(name: &str, spec: &DestinationRule) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut look = |field: String, balancer: Option<&LoadBalancerSettings>| {
        let Some(balancer) = balancer else { return };
        let ramps = balancer.consistent_hash.is_none()
            && !matches!(balancer.simple, Some(SimpleLb::Random | SimpleLb::Passthrough));
        let set = [
            (balancer.warmup.is_some(), "warmup"),
            (balancer.warmup_duration_secs.is_some(), "warmupDurationSecs"),
        ];
        for (_, key) in set.into_iter().filter(|(set, _)| *set && !ramps && switch::SLOW_START) {
            found.push(Warning {
                object: name.to_owned(),
                field: format!("spec.{field}.loadBalancer.{key}"),
                message: "has no effect with this algorithm; write simple: LEAST_REQUEST or ROUND_ROBIN".to_owned(),
            });
        }
    };
    let mut policies: Vec<(String, &TrafficPolicy)> = Vec::new();
    policies.extend(spec.traffic_policy.as_ref().map(|p| ("trafficPolicy".to_owned(), p)));
    for (index, subset) in spec.subsets.iter().enumerate() {
        let policy = subset.traffic_policy.as_ref();
        policies.extend(policy.map(|p| (format!("subsets[{index}].trafficPolicy"), p)));
    }
    for (field, policy) in policies {
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            look(
                format!("{field}.portLevelSettings[{index}]"),
                port.load_balancer.as_ref(),
            );
        }
        look(field, policy.load_balancer.as_ref());
    }
    found
}

fn of_policy(path: &str) -> Use {
    let acting = SWITCHED.iter().filter(|(acts, _)| *acts).map(|(_, list)| *list);
    let uses = std::iter::once(TRAFFIC_POLICY)
        .chain(acting)
        .map(|list| of_list(list, path));
    uses.fold(Use::None, |a, b| match (a, b) {
        (Use::All, _) | (_, Use::All) => Use::All,
        (Use::Inside, _) | (_, Use::Inside) => Use::Inside,
        (Use::None, Use::None) => Use::None,
    })
}

fn of_destination_rule(path: &str) -> Use {
    let mut inside = false;
    // The innermost policy around the path decides.
    for policy in POLICIES.iter().rev() {
        if path == *policy {
            return Use::Inside;
        }
        if let Some(rest) = below(path, policy) {
            match of_policy(rest) {
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
