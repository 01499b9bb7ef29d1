//! Probes of the application: the kubelet has no certificate and is no client of the mesh, so it asks the agent on its
//! status port, and the agent asks the application.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::annotation;
use super::pod::{self, PROXY, annotations, env_of, existing_list, proxy_mut, set_env};

/// Variable by which the agent learns what was asked for: JSON, path → probe.
pub const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";

/// Field of a container, and the end of the path on the agent's port.
const PROBES: [(&str, &str); 3] = [
    ("readinessProbe", "readyz"),
    ("livenessProbe", "livez"),
    ("startupProbe", "startupz"),
];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];
const LISTS: [&str; 2] = ["initContainers", "containers"];

/// Points all probes and hooks over the network at the agent. What cannot be pointed there stays and is said.
pub(super) fn rewrite(merged: &mut Value, by_default: bool, status_port: &str, warnings: &mut Vec<String>) {
    let said = annotations(merged);
    let own = said
        .get(annotation::REWRITE_PROBES)
        .and_then(|v| annotation::parse_bool(v));
    let Ok(status_port @ 1..) = status_port.parse::<u16>() else {
        return;
    };
    if !own.unwrap_or(by_default) || proxy_mut(merged).is_none() {
        return;
    }
    let mut probers: BTreeMap<String, Value> = BTreeMap::new();
    for field in LISTS {
        for container in existing_list(merged, field).into_iter().flatten() {
            if pod::name(container) != PROXY {
                rewrite_container(container, status_port, &mut probers, warnings);
            }
        }
    }
    let Some(proxy) = proxy_mut(merged) else { return };
    if probers.is_empty() {
        return;
    }
    // What an earlier injection found is not to be seen in the Pod any more.
    if let Some(Ok(Value::Object(earlier))) = env_of(proxy, PROBERS).map(serde_json::from_str) {
        for (path, prober) in earlier {
            probers.entry(path).or_insert(prober);
        }
    }
    let text = Value::Object(probers.into_iter().collect()).to_string();
    set_env(proxy, [(PROBERS, text.as_str())]);
}

fn rewrite_container(
    container: &mut Value,
    status_port: u16,
    probers: &mut BTreeMap<String, Value>,
    warnings: &mut Vec<String>,
) {
    let name = pod::name(container).to_owned();
    let ports = named_ports(container);
    let places = PROBES.map(|(field, end)| (format!("/{field}"), format!("/app-health/{name}/{end}"), true));
    let hooks = HOOKS.map(|(field, end)| {
        (
            format!("/lifecycle/{field}"),
            format!("/app-lifecycle/{name}/{end}"),
            false,
        )
    });
    for (pointer, path, is_probe) in places.into_iter().chain(hooks) {
        let Some(probe) = container.pointer_mut(&pointer).and_then(Value::as_object_mut) else {
            continue;
        };
        match prober(probe, &ports, status_port, is_probe) {
            Some(Ok(prober)) => {
                point_at_agent(probe, &path, status_port);
                probers.insert(path, prober);
            }
            Some(Err(port)) => warnings.push(format!(
                "container {name}: {}: the container has no port {port:?}; the probe is left as it is",
                pointer.trim_start_matches('/').replace('/', ".")
            )),
            None => {}
        }
    }
}

fn named_ports(container: &Value) -> BTreeMap<String, u64> {
    let ports = container.get("ports").and_then(Value::as_array);
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| Some((pod::name(port).to_owned(), port.get("containerPort")?.as_u64()?)))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

/// What the agent is told of a probe. `None` if it is not over the network or is the agent's already; the error is the name
/// of a port that is not there.
fn prober(
    probe: &Map<String, Value>,
    ports: &BTreeMap<String, u64>,
    status_port: u16,
    is_probe: bool,
) -> Option<Result<Value, String>> {
    let (kind, fields): (&str, &[&str]) = if probe.contains_key("httpGet") {
        ("httpGet", &["path", "port", "host", "scheme", "httpHeaders"])
    } else if probe.contains_key("tcpSocket") {
        ("tcpSocket", &["port", "host"])
    } else if is_probe && probe.contains_key("grpc") {
        ("grpc", &["port", "service"])
    } else {
        return None;
    };
    let action = probe.get(kind)?.as_object()?;
    let port = match action.get("port")? {
        Value::Number(number) => number.as_u64()?,
        Value::String(name) => match ports.get(name).copied().or_else(|| name.parse().ok()) {
            Some(port) => port,
            None => return Some(Err(name.clone())),
        },
        _ => return None,
    };
    if port == u64::from(status_port) {
        return None;
    }
    let mut written = Map::new();
    for field in fields {
        match action.get(*field).filter(|v| !v.is_null()) {
            Some(_) if *field == "port" => {
                written.insert("port".to_owned(), json!(port));
            }
            Some(value) => {
                written.insert((*field).to_owned(), value.clone());
            }
            None => {}
        }
    }
    let mut out = Map::new();
    out.insert(kind.to_owned(), Value::Object(written));
    if let Some(seconds) = probe.get("timeoutSeconds").filter(|s| is_probe && s.as_u64() > Some(0)) {
        out.insert("timeoutSeconds".to_owned(), seconds.clone());
    }
    Some(Ok(Value::Object(out)))
}

/// The agent answers over HTTP whatever it asks the application itself.
fn point_at_agent(probe: &mut Map<String, Value>, path: &str, status_port: u16) {
    let mut action = match probe.get_mut("httpGet").map(Value::take) {
        Some(Value::Object(action)) => action,
        _ => Map::new(),
    };
    for other in ["tcpSocket", "grpc"] {
        probe.shift_remove(other);
    }
    action.insert("path".to_owned(), json!(path));
    action.insert("port".to_owned(), json!(status_port));
    if action.get("scheme").and_then(Value::as_str) == Some("HTTPS") {
        action.insert("scheme".to_owned(), json!("HTTP"));
    }
    probe.insert("httpGet".to_owned(), Value::Object(action));
}
