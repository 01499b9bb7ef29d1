//! Merging of metrics: Prometheus scrapes the agent, which scrapes the application.

use mesh_api::mesh_config::MeshConfig;
use serde_json::{Map, Value, json};

use super::annotation;
use super::pod::{annotations, metadata_mut, proxy_mut, set_env};

/// Variable by which the agent learns where the application's metrics are.
pub const SCRAPE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";

/// The three annotations under Prometheus' own names: `prometheus.io/port` and `prometheus-io/port` are the same one.
const NAMES: [(&str, &str); 3] = [
    ("prometheus_io_scrape", "scrape"),
    ("prometheus_io_path", "path"),
    ("prometheus_io_port", "port"),
];

fn field_of(annotation: &str) -> Option<&'static str> {
    let name: String = annotation
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    NAMES.iter().find(|(full, _)| *full == name).map(|(_, field)| *field)
}

/// Hands the Pod's annotations over to the agent and puts the agent's in their place.
pub(super) fn merge(merged: &mut Value, mesh: &MeshConfig, status_port: u16) {
    let written = annotations(merged);
    let mut found: [(&str, &str); 3] = [("scrape", ""), ("path", ""), ("port", "")];
    for (name, value) in &written {
        if let Some(slot) = field_of(name).and_then(|field| found.iter_mut().find(|(f, _)| *f == field)) {
            slot.1 = value;
        }
    }
    let [(_, scrape), _, (_, port)] = found;
    let wanted = written
        .get(annotation::MERGE_METRICS)
        .and_then(|v| annotation::parse_bool(v));
    if annotation::parse_bool(scrape) == Some(false) || !wanted.unwrap_or(mesh.enable_prometheus_merge) {
        return;
    }
    let ours = status_port.to_string();
    if port == ours {
        // By an earlier injection, or by somebody who knows the agent.
        return;
    }
    if found.iter().any(|(_, value)| !value.is_empty())
        && let Some(proxy) = proxy_mut(merged)
    {
        let fields: Map<String, Value> = found.iter().map(|(f, v)| ((*f).to_owned(), json!(v))).collect();
        set_env(proxy, [(SCRAPE, Value::Object(fields).to_string().as_str())]);
    }
    if let Some(annotations) = metadata_mut(merged, "annotations") {
        annotations.retain(|name, _| field_of(name).is_none());
        for (name, value) in [
            ("port", ours.as_str()),
            ("path", "/stats/prometheus"),
            ("scrape", "true"),
        ] {
            annotations.insert(format!("prometheus.io/{name}"), json!(value));
        }
    }
}
