//! The template `sidecar`: capture, and the proxy beside the application.

use mesh_api::names::label;
use serde_json::{Map, Value, json};

use super::pod::{INIT, VALIDATION};
use super::template::Facts;
use super::{annotation, container, volumes};

/// Label of workloads that take HBONE tunnels.
const TUNNEL: &str = "networking.istio.io/tunnel";

/// The fields that are laid over the Pod.
///
/// # Errors
/// When an annotation cannot be used.
pub(super) fn template(facts: &Facts<'_>) -> Result<Value, String> {
    let mut init = Vec::new();
    if facts.captured() {
        init.push(init_container(facts));
    }
    let mut proxy = container::proxy(facts, "sidecar");
    let mounts = volumes::mounts(facts, volumes::Role::Sidecar)?;
    proxy.insert("volumeMounts".to_owned(), mounts);
    let mut spec = Map::new();
    if facts.native {
        proxy.insert("restartPolicy".to_owned(), json!("Always"));
        init.push(Value::Object(proxy));
    } else {
        spec.insert("containers".to_owned(), json!([proxy]));
    }
    if !init.is_empty() {
        spec.insert("initContainers".to_owned(), Value::Array(init));
    }
    spec.insert("volumes".to_owned(), volumes::volumes(facts, volumes::Role::Sidecar)?);
    container::add_pull_secrets(facts, &mut spec);
    Ok(json!({
        "metadata": {"labels": labels(facts), "annotations": annotations(facts)},
        "spec": spec,
    }))
}

fn labels(facts: &Facts<'_>) -> Map<String, Value> {
    let mut labels = Map::new();
    let own = |name: &str, default: &str| json!(facts.label(name).unwrap_or(default));
    labels.insert(label::TLS_MODE.to_owned(), own(label::TLS_MODE, "istio"));
    let metadata = &facts.proxy.proxy_metadata;
    if metadata.get("ISTIO_META_ENABLE_HBONE").map(String::as_str) == Some("true") {
        labels.insert(TUNNEL.to_owned(), own(TUNNEL, "http"));
    }
    labels.extend(facts.canonical_labels());
    labels
}

fn annotations(facts: &Facts<'_>) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert(annotation::REVISION.to_owned(), json!(facts.revision()));
    if let Some(first) = facts.app_containers().first() {
        for name in [annotation::DEFAULT_LOGS_CONTAINER, annotation::DEFAULT_CONTAINER] {
            if !facts.annotations.contains_key(name) {
                out.insert(name.to_owned(), json!(first));
            }
        }
    }
    if let Some(cni) = facts.values().cni() {
        if cni.provider == "multus" || !cni.chained {
            let before = facts.annotation(annotation::MULTUS_NETWORKS, "");
            out.insert(annotation::MULTUS_NETWORKS.to_owned(), json!(with_network(before)));
        }
        for (name, value) in capture(facts) {
            out.insert(name.to_owned(), json!(value));
        }
    }
    out
}

/// The node agent reads from the Pod what the init container is told by arguments.
fn capture(facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    let proxy = &facts.values().global.proxy;
    let value = |name: &'static str, default: &str| facts.annotation(name, default).to_owned();
    let mut out = vec![
        (annotation::INTERCEPTION_MODE, facts.interception().to_owned()),
        (
            annotation::INCLUDE_INBOUND_PORTS,
            value(annotation::INCLUDE_INBOUND_PORTS, &proxy.include_inbound_ports),
        ),
        (annotation::EXCLUDE_INBOUND_PORTS, facts.excluded_inbound_ports()),
    ];
    let optional = [
        (annotation::INCLUDE_OUTBOUND_RANGES, proxy.include_ip_ranges.as_str()),
        (annotation::EXCLUDE_OUTBOUND_RANGES, &proxy.exclude_ip_ranges),
        (annotation::INCLUDE_OUTBOUND_PORTS, &proxy.include_outbound_ports),
        (annotation::EXCLUDE_OUTBOUND_PORTS, &proxy.exclude_outbound_ports),
        (annotation::KUBEVIRT_INTERFACES, ""),
        (annotation::REROUTE_INTERFACES, ""),
        (annotation::EXCLUDE_INTERFACES, ""),
    ];
    out.extend(
        optional
            .into_iter()
            .map(|(name, default)| (name, value(name, default)))
            .filter(|(_, value)| !value.is_empty()),
    );
    out
}

/// Multus' list of networks, names by commas or JSON, with the plugin's own.
fn with_network(before: &str) -> String {
    const NETWORK: &str = "default/istio-cni";
    if before.trim().is_empty() {
        return NETWORK.to_owned();
    }
    if let Ok(Value::Array(mut networks)) = serde_json::from_str(before) {
        let ours = |n: &Value| n.get("name").and_then(Value::as_str) == Some(NETWORK);
        if !networks.iter().any(ours) {
            networks.push(json!({"name": NETWORK}));
        }
        return Value::Array(networks).to_string();
    }
    if before.split(',').any(|name| name.trim() == NETWORK) {
        return before.to_owned();
    }
    format!("{before}, {NETWORK}")
}

/// `istio-init` writes the capture rules; `istio-validation` checks that the CNI plugin wrote them.
fn init_container(facts: &Facts<'_>) -> Value {
    let values = facts.values();
    let cni = values.cni().is_some();
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(if cni { VALIDATION } else { INIT }));
    out.insert(
        "image".to_owned(),
        json!(container::image(facts, &values.global.proxy_init.image)),
    );
    // The image's entry point is the proxy; Istio's takes this program's name as its first argument.
    out.insert("command".to_owned(), json!(["mesh-init"]));
    out.insert("args".to_owned(), json!(init_arguments(facts, cni)));
    container::add_pull_policy(facts, &mut out);
    if !facts.proxy.proxy_metadata.is_empty() {
        let env = facts.proxy.proxy_metadata.iter();
        let env: Vec<Value> = env.map(|(name, value)| json!({"name": name, "value": value})).collect();
        out.insert("env".to_owned(), Value::Array(env));
    }
    let own = values.global.proxy_init.resources.as_ref().filter(|r| !r.is_empty());
    let resources = own.cloned().or_else(|| container::resources(facts));
    if let Some(resources) = resources {
        out.insert("resources".to_owned(), Value::Object(resources));
    }
    let privileged = values.global.proxy.privileged;
    let (uid, gid) = if facts.tproxy() {
        (1337, 1337)
    } else {
        (facts.uid, facts.gid)
    };
    let mut security = json!({
        "allowPrivilegeEscalation": privileged,
        "privileged": privileged,
        "capabilities": if cni { json!({"drop": ["ALL"]}) } else { json!({"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}) },
        "readOnlyRootFilesystem": cni,
        "runAsGroup": if cni { gid } else { 0 },
        "runAsNonRoot": cni,
        "runAsUser": if cni { uid } else { 0 },
    });
    container::add_seccomp(facts, &mut security);
    out.insert("securityContext".to_owned(), security);
    Value::Object(out)
}

fn init_arguments(facts: &Facts<'_>, cni: bool) -> Vec<String> {
    let values = facts.values();
    let proxy = &values.global.proxy;
    let mut args: Vec<String> = Vec::new();
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    let annotation = |name: &str, default: &str| facts.annotation(name, default).to_owned();
    let uid = if facts.tproxy() { 1337 } else { facts.uid };
    flag("-p", facts.mesh.proxy_listen_port.to_string());
    flag("-z", facts.mesh.proxy_inbound_listen_port.to_string());
    flag("-u", uid.to_string());
    flag("-m", facts.interception().to_owned());
    flag(
        "-i",
        annotation(annotation::INCLUDE_OUTBOUND_RANGES, &proxy.include_ip_ranges),
    );
    flag(
        "-x",
        annotation(annotation::EXCLUDE_OUTBOUND_RANGES, &proxy.exclude_ip_ranges),
    );
    flag(
        "-b",
        annotation(annotation::INCLUDE_INBOUND_PORTS, &proxy.include_inbound_ports),
    );
    let excluded = facts.excluded_inbound_ports();
    let comma = if excluded.is_empty() { "" } else { "," };
    flag("-d", format!("15090,15021{comma}{excluded}"));
    for (name, annotation, default) in [
        ("-q", annotation::INCLUDE_OUTBOUND_PORTS, &proxy.include_outbound_ports),
        ("-o", annotation::EXCLUDE_OUTBOUND_PORTS, &proxy.exclude_outbound_ports),
    ] {
        if facts.annotations.contains_key(annotation) || !default.is_empty() {
            flag(name, facts.annotation(annotation, default).to_owned());
        }
    }
    let reroute = [annotation::REROUTE_INTERFACES, annotation::KUBEVIRT_INTERFACES];
    if let Some(interfaces) = reroute.iter().find_map(|name| facts.annotations.get(*name)) {
        flag("-k", interfaces.clone());
    }
    if let Some(interfaces) = facts.annotations.get(annotation::EXCLUDE_INTERFACES) {
        flag("-c", interfaces.clone());
    }
    let level = facts.annotation(annotation::AGENT_LOG_LEVEL, &values.global.logging.level);
    args.push(format!("--log_output_level={level}"));
    if values.global.log_as_json {
        args.push("--log_as_json".to_owned());
    }
    if cni {
        args.extend(["--run-validation".to_owned(), "--skip-rule-apply".to_owned()]);
    } else if values.global.proxy_init.force_apply_iptables {
        args.push("--force-apply".to_owned());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugins_network_is_added_once() {
        for (before, after) in [
            ("", "default/istio-cni"),
            ("a, b", "a, b, default/istio-cni"),
            ("a,default/istio-cni", "a,default/istio-cni"),
            (r#"[{"name":"a"}]"#, r#"[{"name":"a"},{"name":"default/istio-cni"}]"#),
        ] {
            assert_eq!(with_network(before), after);
            assert_eq!(with_network(after), after);
        }
    }
}
