//! DestinationRules: traffic policies stand at four places of them.

use mesh_api::istio::{DestinationRule, LoadBalancerSettings, SimpleLb, TrafficPolicy};

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
    "connectionPool.http.http2KeepAlive",
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
    "loadBalancer.localityLbSetting.distribute",
    "loadBalancer.consistentHash",
    "loadBalancer.warmup",
    "loadBalancer.warmupDurationSecs",
    "retryBudget.percent",
    "retryBudget.minRetryConcurrency",
    "proxyProtocol",
    "tunnel.protocol",
    "tunnel.targetHost",
    "tunnel.targetPort",
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
    let mut found = fields(name, spec, of_destination_rule);
    found.extend(without_ramp(name, spec));
    found.extend(posted(name, spec));
    for (field, balancer) in balancers(spec) {
        let setting = balancer.locality_lb_setting.iter();
        for (index, key) in setting.flat_map(|s| &s.failover_priority).enumerate() {
            if let Some(message) = unknown_place(key) {
                found.push(Warning {
                    object: name.to_owned(),
                    field: format!("spec.{field}.loadBalancer.localityLbSetting.failoverPriority[{index}]"),
                    message: message.to_owned(),
                });
            }
        }
    }
    found
}

/// Why a key of `failoverPriority` tells nobody apart: where a workload runs is known by its locality and its own labels.
pub(super) fn unknown_place(key: &str) -> Option<&'static str> {
    let key = key.split_once('=').map_or(key, |(key, _)| key);
    matches!(key, "kubernetes.io/hostname" | "topology.istio.io/cluster").then_some(
        "is not known of workloads, so it makes no difference; write a label of the Pods, or topology.kubernetes.io/region, \
         topology.kubernetes.io/zone or topology.istio.io/subzone",
    )
}

/// Where the rule speaks of load balancing.
fn balancers(spec: &DestinationRule) -> Vec<(String, &LoadBalancerSettings)> {
    let mut found = Vec::new();
    for (field, policy) in policies(spec) {
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            let balancer = port.load_balancer.as_ref();
            found.extend(balancer.map(|b| (format!("{field}.portLevelSettings[{index}]"), b)));
        }
        found.extend(policy.load_balancer.as_ref().map(|b| (field, b)));
    }
    found
}

/// Tunnels of a kind that mesh-proxy has not.
fn posted(name: &str, spec: &DestinationRule) -> Vec<Warning> {
    let policies = policies(spec).into_iter();
    let posts = policies.filter(|(_, p)| p.tunnel.as_ref().is_some_and(|t| t.protocol == "POST"));
    let warning = |(field, _)| Warning {
        object: name.to_owned(),
        field: format!("spec.{field}.tunnel.protocol"),
        message: "POST is not implemented, so there is no tunnel; write CONNECT".to_owned(),
    };
    posts.map(warning).collect()
}

/// The traffic policies of a rule and of its subsets, with their fields.
fn policies(spec: &DestinationRule) -> Vec<(String, &TrafficPolicy)> {
    let own = spec.traffic_policy.as_ref().map(|p| ("trafficPolicy".to_owned(), p));
    let of_subsets = spec.subsets.iter().enumerate().filter_map(|(index, subset)| {
        let policy = subset.traffic_policy.as_ref()?;
        Some((format!("subsets[{index}].trafficPolicy"), policy))
    });
    own.into_iter().chain(of_subsets).collect()
}

/// Slow starts of algorithms that have none.
fn without_ramp(name: &str, spec: &DestinationRule) -> Vec<Warning> {
    let mut found = Vec::new();
    for (field, balancer) in balancers(spec) {
        let ramps = balancer.consistent_hash.is_none()
            && !matches!(balancer.simple, Some(SimpleLb::Random | SimpleLb::Passthrough));
        let set = [
            (balancer.warmup.is_some(), "warmup"),
            (balancer.warmup_duration_secs.is_some(), "warmupDurationSecs"),
        ];
        for (_, key) in set.into_iter().filter(|(set, _)| *set && !ramps) {
            found.push(Warning {
                object: name.to_owned(),
                field: format!("spec.{field}.loadBalancer.{key}"),
                message: "has no effect with this algorithm; write simple: LEAST_REQUEST or ROUND_ROBIN".to_owned(),
            });
        }
    }
    found
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
