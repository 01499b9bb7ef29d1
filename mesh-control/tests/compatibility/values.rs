//! Values for fields.

use mesh_api::istio::Kind;
use serde_json::{Value, json};

/// Values for fields that not every value of their type suits. The first that is noticed is enough.
pub(crate) fn values(kind: Kind, path: &str) -> Vec<Value> {
    let last = path.rsplit('.').next().unwrap_or(path);
    let words = |words: &[&str]| words.iter().map(|w| json!(w)).collect();
    match (kind, path, last) {
        (_, _, "interval" | "timeout" | "idleTimeout" | "ttl" | "duration") => words(&["7s"]),
        (_, _, "labels{}") => words(&["probe"]),
        (Kind::VirtualService, _, "bytes") => words(&["cHJvYmU="]),
        (Kind::VirtualService, p, "name" | "namespace") if p.contains("delegate") => {
            words(&[if p.ends_with("name") { "delegate" } else { "shop" }])
        }
        (Kind::VirtualService, "http[].redirect.scheme", _) => words(&["http"]),
        (Kind::DestinationRule, p, "to{}") if p.contains("distribute") => vec![json!({"us-west1/*": 100})],
        (Kind::WorkloadGroup, _, "scheme") => words(&["HTTPS"]),
        (Kind::EnvoyFilter, _, "applyTo") => words(&["VIRTUAL_HOST"]),
        (Kind::EnvoyFilter, "targetRefs[].kind", _) => words(&["GatewayClass"]),
        (Kind::EnvoyFilter, "targetRefs[].group", _) => words(&["probe"]),
        (Kind::EnvoyFilter, "targetRefs[].name", _) => words(&["probe"]),
        (Kind::ProxyConfig, _, "imageType") => words(&["debug"]),
        (_, _, "exportTo[]") => words(&["~", ".", "elsewhere"]),
        (Kind::VirtualService, "hosts[]", _) => words(&["other"]),
        (_, _, "gateways[]") => words(&["mesh", "gateway"]),
        (Kind::VirtualService, _, "regex") => words(&["a+"]),
        (Kind::VirtualService, _, "host") => words(&["other", "catalog"]),
        (Kind::VirtualService | Kind::Sidecar, _, "subset") => words(&["v1", "v2"]),
        (Kind::VirtualService, _, "number") => vec![json!(80), json!(9000)],
        (Kind::VirtualService, p, "port") if p.starts_with("tls") => vec![json!(443), json!(8443)],
        (Kind::VirtualService, p, "port") if p.contains("match") => vec![json!(80), json!(9000), json!(7)],
        (Kind::VirtualService, _, "destinationSubnets[]" | "sourceSubnet") => words(&["10.7.0.0/16"]),
        (Kind::VirtualService, _, "sniHosts[]") => words(&["more.example.com"]),
        (Kind::VirtualService, _, "status" | "httpStatus") => vec![json!(503)],
        (Kind::VirtualService, _, "redirectCode") => vec![json!(302)],
        (Kind::VirtualService, _, "retryOn") => words(&["5xx"]),
        (Kind::VirtualService, _, "grpcStatus") => words(&["UNAVAILABLE"]),
        (Kind::VirtualService, _, "maxAge" | "backoff" | "perTryTimeout" | "fixedDelay" | "exponentialDelay") => {
            words(&["7s"])
        }
        (Kind::VirtualService, _, "allowMethods[]") => words(&["POST"]),
        (Kind::DestinationRule, "host", _) => words(&["other"]),
        (Kind::DestinationRule, "subsets[].name", _) => words(&["probe"]),
        (Kind::DestinationRule, _, "from") => words(&["us-east1/us-east1-a/*", "us-east1"]),
        (Kind::DestinationRule, _, "to") => words(&["us-east1"]),
        (Kind::DestinationRule, _, "failoverPriority[]") => words(&["topology.kubernetes.io/region", "version"]),
        (Kind::DestinationRule, _, "protocol") => words(&["POST", "CONNECT"]),
        (Kind::DestinationRule, _, "outlierDetectionHttpErrorCodes[]") => vec![json!(503)],
        (Kind::DestinationRule, _, "tableSize") => vec![json!(101)],
        (Kind::DestinationRule, _, "aggression") => vec![json!(2.0)],
        (Kind::DestinationRule, _, "caCertificates" | "clientCertificate" | "privateKey" | "caCrl") => {
            words(&["/other.pem"])
        }
        (Kind::DestinationRule, _, "sni" | "subjectAltNames[]") => words(&["probe.example.com"]),
        (Kind::Gateway | Kind::Sidecar, _, "cipherSuites[]") => words(&["ECDHE-RSA-AES256-GCM-SHA384"]),
        (Kind::Gateway | Kind::Sidecar, _, "ecdhCurves[]") => words(&["P-256"]),
        (Kind::Gateway, _, "hosts[]") => words(&["probe.example.com"]),
        (Kind::Gateway, _, "bind") => words(&["10.7.7.7"]),
        (Kind::Gateway, _, "protocol") => words(&["TCP", "GRPC", "HTTP2"]),
        (Kind::Gateway, _, "defaultEndpoint") => words(&["127.0.0.1:80"]),
        (Kind::Gateway | Kind::Sidecar, _, "verifyCertificateHash[]") => {
            words(&["df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a"])
        }
        (Kind::Gateway | Kind::Sidecar, _, "verifyCertificateSpki[]") => {
            words(&["NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A="])
        }
        (Kind::Gateway | Kind::Sidecar, _, "maxProtocolVersion") => words(&["TLSV1_2"]),
        (Kind::Gateway | Kind::Sidecar, _, "minProtocolVersion") => words(&["TLSV1_3"]),
        (Kind::Gateway | Kind::Sidecar, _, "serverCertificate" | "privateKey" | "caCertificates" | "caCrl") => {
            words(&["/other.pem"])
        }
        (Kind::Gateway, _, "subjectAltNames[]") => words(&["probe.example.com"]),
        (Kind::ServiceEntry, "hosts[]", _) => words(&["probe.example.com"]),
        (Kind::ServiceEntry, "addresses[]", _) => words(&["240.7.7.7"]),
        (Kind::ServiceEntry, "ports[].name", _) => words(&["tcp"]),
        (Kind::ServiceEntry, _, "protocol") => words(&["TCP", "HTTP2"]),
        (Kind::ServiceEntry, "workloadSelector.labels{}", _) => words(&["probe"]),
        (Kind::ServiceEntry | Kind::WorkloadEntry | Kind::WorkloadGroup, _, "locality") => {
            words(&["us-east1/us-east1-a"])
        }
        (Kind::ServiceEntry | Kind::WorkloadEntry, _, "address") => words(&["10.7.7.7"]),
        (Kind::ServiceEntry | Kind::WorkloadEntry, _, "ports{}") => vec![json!(7)],
        (Kind::Sidecar, "egress[].port.number", _) => vec![json!(82)],
        (Kind::Sidecar, _, "hosts[]") => words(&["./other.shop.svc.cluster.local"]),
        (Kind::Sidecar, _, "protocol") => words(&["TCP"]),
        (Kind::Sidecar, _, "bind") => words(&["127.0.0.7"]),
        (Kind::Sidecar, _, "defaultEndpoint") => words(&["127.0.0.1:7"]),
        (Kind::Sidecar, "outboundTrafficPolicy.egressProxy.host", _) => words(&["catalog.shop.svc.cluster.local"]),
        (Kind::Sidecar, "outboundTrafficPolicy.egressProxy.port.number", _) => vec![json!(9000)],
        (Kind::EnvoyFilter, _, "value") => vec![json!({"connect_timeout": "9s"})],
        _ => Vec::new(),
    }
}

/// Fields that say nothing to a proxy, with the reason.
pub(crate) fn not_applicable(kind: Kind, path: &str) -> Option<&'static str> {
    match (kind, path) {
        (Kind::Gateway, "servers[].name") | (Kind::Sidecar, "egress[].port.name" | "ingress[].port.name") => {
            Some("a name for people")
        }
        (Kind::WorkloadGroup, "metadata.annotations{}") => {
            Some("is written into the WorkloadEntry, where nobody asks for annotations")
        }
        _ => None,
    }
}
