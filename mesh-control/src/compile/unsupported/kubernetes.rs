//! What Kubernetes' own objects say about traffic.

use std::collections::BTreeMap;

use mesh_api::k8s::{ObjectMeta, Pod, Service};

use super::Warning;
use crate::store::protocol::Protocol;

/// The annotation of Istio's that stands for `spec.trafficDistribution`.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// Of the protocol gRPC-Web.
const UNTRANSLATED: &str = "gRPC-Web is carried as it is and not translated to gRPC yet: browsers reach servers that speak gRPC-Web \
                            themselves; call the port grpc where they do not";

/// Ports of Istio's objects, each with its field.
pub(super) fn report_ports<'a>(name: &str, protocols: impl Iterator<Item = (String, &'a str)>) -> Vec<Warning> {
    let web = protocols.filter(|(_, protocol)| Protocol::parse(protocol) == Some(Protocol::GrpcWeb));
    web.map(|(field, _)| warning(name, &field, UNTRANSLATED)).collect()
}

pub(super) fn report_service(name: &str, service: &Service) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |field: &str, message: &str| found.push(warning(name, field, message));
    let near = "is not in force yet: traffic goes to all endpoints; write a DestinationRule with localityLbSetting and outlierDetection";
    if let Some(spec) = &service.spec {
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            let name = port.name.as_deref().unwrap_or_default();
            let number = u16::try_from(port.port).unwrap_or_default();
            let protocol =
                Protocol::of_kubernetes(port.protocol.as_deref(), port.app_protocol.as_deref(), name, number);
            if protocol == Protocol::GrpcWeb {
                let by_name = Protocol::of_kubernetes(None, None, name, number) == Protocol::GrpcWeb;
                let field = if by_name { "name" } else { "appProtocol" };
                warn(&format!("spec.ports[{index}].{field}"), UNTRANSLATED);
            }
        }
        if spec.traffic_distribution.is_some() {
            warn("spec.trafficDistribution", near);
        }
        if spec.internal_traffic_policy.as_deref() == Some("Local") {
            warn(
                "spec.internalTrafficPolicy",
                "Local is not in force yet: traffic goes to endpoints on all nodes; write Cluster",
            );
        }
        if spec.session_affinity.as_deref() == Some("ClientIP") {
            warn(
                "spec.sessionAffinity",
                "ClientIP is not in force in the mesh: write a DestinationRule with loadBalancer.consistentHash.useSourceIp",
            );
        }
    }
    if annotations(&service.metadata).contains_key(TRAFFIC_DISTRIBUTION) {
        warn(&at(TRAFFIC_DISTRIBUTION), near);
    }
    found
}

/// Pods. What their `proxy.istio.io/config` says is looked at by the proxy that is started with it.
pub(super) fn report_pod(name: &str, pod: &Pod) -> Vec<Warning> {
    let annotations = annotations(&pod.metadata);
    let mut found = Vec::new();
    for (annotation, message) in [
        (
            "sidecar.istio.io/statsHistogramBuckets",
            "is not in force yet: histograms have Istio's buckets",
        ),
        (
            "sidecar.istio.io/extraStatTags",
            "is not in force yet: metrics have Istio's standard labels only",
        ),
    ] {
        if annotations.contains_key(annotation) {
            found.push(warning(name, &at(annotation), message));
        }
    }
    found
}

fn annotations(meta: &ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    meta.annotations.as_ref().unwrap_or(&NONE)
}

fn at(annotation: &str) -> String {
    format!("metadata.annotations[\"{annotation}\"]")
}

fn warning(name: &str, field: &str, message: &str) -> Warning {
    Warning {
        object: name.to_owned(),
        field: field.to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::istio::parse;
    use serde_json::json;

    use super::super::unsupported;

    fn reported(kind: &str, spec: &serde_json::Value, annotations: &serde_json::Value) -> Vec<String> {
        let document = json!({"apiVersion": "v1", "kind": kind, "spec": spec,
            "metadata": {"name": "a", "namespace": "b", "annotations": annotations}});
        let object = parse("v1", kind, document).expect("a readable object");
        unsupported(&object).into_iter().map(|w| w.field).collect()
    }

    #[test]
    fn what_services_and_pods_say_and_nobody_does_is_named() {
        let service = json!({"trafficDistribution": "PreferClose", "internalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
            "ports": [{"name": "grpc", "port": 1}, {"name": "grpc-web-x", "port": 2}, {"port": 3, "appProtocol": "grpc-web"}]});
        assert_eq!(
            reported(
                "Service",
                &service,
                &json!({"networking.istio.io/traffic-distribution": "PreferClose"})
            ),
            [
                "spec.ports[1].name",
                "spec.ports[2].appProtocol",
                "spec.trafficDistribution",
                "spec.internalTrafficPolicy",
                "spec.sessionAffinity",
                "metadata.annotations[\"networking.istio.io/traffic-distribution\"]",
            ]
        );
        let defaults = json!({"internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "ports": [{"name": "http", "port": 80}]});
        assert_eq!(reported("Service", &defaults, &json!({})), Vec::<String>::new());
        let pod = json!({"containers": []});
        let asked =
            json!({"sidecar.istio.io/statsHistogramBuckets": "{}", "sidecar.istio.io/statsInclusionPrefixes": "x"});
        assert_eq!(
            reported("Pod", &pod, &asked),
            ["metadata.annotations[\"sidecar.istio.io/statsHistogramBuckets\"]"]
        );
    }
}
