//! The node's metadata, under Istio's names.

use serde_json::{Map, Value, json};

use super::environment::{Environment, downward};
use super::proxy_config::ProxyConfig;
use super::settings::Ports;

/// Facts of the pod that have variables of their own.
pub(super) struct Pod<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) service_account: &'a str,
    pub(super) ips: &'a [std::net::IpAddr],
}

/// All metadata. What cannot be read becomes a warning.
pub(super) fn metadata(
    pod: &Pod<'_>,
    environment: &Environment,
    config: &ProxyConfig,
    ports: &Ports,
    warnings: &mut Vec<String>,
) -> Map<String, Value> {
    let ips: Vec<_> = pod.ips.iter().map(ToString::to_string).collect();
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    put("NAME", json!(pod.name));
    put("NAMESPACE", json!(pod.namespace));
    put("SERVICE_ACCOUNT", json!(pod.service_account));
    put("INSTANCE_IPS", json!(ips.join(",")));
    put("INTERCEPTION_MODE", json!("REDIRECT"));
    put("CLUSTER_ID", json!("Kubernetes"));
    put("ISTIO_VERSION", json!(env!("CARGO_PKG_VERSION")));
    put("ENVOY_PROMETHEUS_PORT", json!(ports.metrics));
    put("ENVOY_STATUS_PORT", json!(ports.readiness));
    put("PROXY_CONFIG", Value::Object(config.raw.clone()));
    if let Some(sans) = environment.get("ISTIOD_SAN") {
        put("PILOT_SAN", json!([sans]));
    }
    let mut labels = Map::new();
    if let Some(path) = &environment.labels_file {
        match downward(path) {
            Ok(read) => labels.extend(read.into_iter().map(|(k, v)| (k, json!(v)))),
            Err(e) => warnings.push(e),
        }
    }
    if let Some(path) = &environment.annotations_file {
        match downward(path) {
            Ok(read) => put("ANNOTATIONS", json!(read)),
            Err(e) => warnings.push(e),
        }
    }
    for (key, value) in environment.with_prefix("ISTIO_META_") {
        put(key, json!(value));
    }
    for (key, value) in environment.with_prefix("ISTIO_METAJSON_") {
        match serde_json::from_str::<Value>(value) {
            // Istio's: labels of several sources add up, and so does what is at the top.
            Ok(Value::Object(more)) if key == "LABELS" => labels.extend(more),
            Ok(Value::Object(more)) if key == "ANNOTATIONS" => put(key, Value::Object(more)),
            Ok(value) => put(key, value),
            Err(e) => warnings.push(format!("ISTIO_METAJSON_{key}: no JSON: {e}")),
        }
    }
    put("LABELS", Value::Object(labels));
    if !out.contains_key("WORKLOAD_NAME") {
        out.insert("WORKLOAD_NAME".to_owned(), json!(workload_name(pod.name)));
    }
    out
}

/// A Deployment's pods are named `NAME-HASH-RANDOM`; without `ISTIO_META_WORKLOAD_NAME` that is the best guess.
fn workload_name(pod: &str) -> &str {
    let mut parts = pod.rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(_), Some(name)) => name,
        _ => pod,
    }
}
