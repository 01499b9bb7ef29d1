//! The proxy's container, which sidecars and gateways share.

use serde_json::{Map, Value, json};

use super::annotation;
use super::environment;
use super::pod::PROXY;
use super::template::Facts;

/// The container without its mounts; `role` is `sidecar` or `router`.
pub(super) fn proxy(facts: &Facts<'_>, role: &str) -> Map<String, Value> {
    let values = facts.values();
    let proxy = &values.global.proxy;
    let sidecar = role == "sidecar";
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    put("name", json!(PROXY));
    put("image", json!(image(facts, &proxy.image)));
    put(
        "ports",
        json!([{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}]),
    );
    put(
        "args",
        json!([
            "proxy",
            role,
            "--domain",
            format!("$(POD_NAMESPACE).svc.{}", proxy.cluster_domain),
            format!(
                "--proxyLogLevel={}",
                facts.annotation(annotation::LOG_LEVEL, &proxy.log_level)
            ),
            format!(
                "--proxyComponentLogLevel={}",
                facts.annotation(annotation::COMPONENT_LOG_LEVEL, &proxy.component_log_level)
            ),
            format!(
                "--log_output_level={}",
                facts.annotation(annotation::AGENT_LOG_LEVEL, &values.global.logging.level)
            ),
        ]),
    );
    if let Some(lifecycle) = lifecycle(facts, sidecar) {
        put("lifecycle", lifecycle);
    }
    put("env", Value::Array(environment::of_proxy(facts, sidecar)));
    if sidecar {
        probes(facts, &mut put);
        put("securityContext", security(facts));
        if let Some(resources) = resources(facts) {
            put("resources", Value::Object(resources));
        }
    } else {
        put("readinessProbe", readiness(facts, false));
    }
    add_pull_policy(facts, &mut out);
    out
}

fn lifecycle(facts: &Facts<'_>, sidecar: bool) -> Option<Value> {
    let proxy = &facts.values().global.proxy;
    if let Some(own) = proxy.lifecycle.as_ref().filter(|own| !own.is_empty()) {
        return Some(Value::Object(own.clone()));
    }
    if !sidecar {
        return None;
    }
    if facts.native {
        // Kubernetes ends the proxy after the applications, and says so when the Pod begins to end.
        let admin = format!("127.0.0.1:{}", facts.status_port);
        let drain = ["pilot-agent", "request", "--admin", &admin, "POST", "drain"];
        return Some(json!({"preStop": {"exec": {"command": drain}}}));
    }
    let hold = facts.proxy.hold_application_until_proxy_starts || proxy.hold_application_until_proxy_starts;
    hold.then(|| json!({"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}))
}

fn probes(facts: &Facts<'_>, put: &mut impl FnMut(&str, Value)) {
    if facts.status_port == "0" {
        return;
    }
    let startup = &facts.values().global.proxy.startup_probe;
    if startup.enabled {
        put(
            "startupProbe",
            json!({
                "httpGet": {"path": "/healthz/ready", "port": 15021},
                "initialDelaySeconds": 0,
                "periodSeconds": 1,
                "timeoutSeconds": 3,
                "failureThreshold": startup.failure_threshold,
            }),
        );
    }
    put("readinessProbe", readiness(facts, true));
}

fn readiness(facts: &Facts<'_>, annotated: bool) -> Value {
    let proxy = &facts.values().global.proxy;
    let number = |name: &str, default: u32| {
        let own = annotated.then(|| facts.annotations.get(name)).flatten();
        own.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    json!({
        "httpGet": {"path": "/healthz/ready", "port": 15021},
        "initialDelaySeconds": number(annotation::INITIAL_DELAY, proxy.readiness_initial_delay_seconds),
        "periodSeconds": number(annotation::PERIOD, proxy.readiness_period_seconds),
        "timeoutSeconds": 3,
        "failureThreshold": number(annotation::FAILURE_THRESHOLD, proxy.readiness_failure_threshold),
    })
}

fn security(facts: &Facts<'_>) -> Value {
    let proxy = &facts.values().global.proxy;
    let bind = facts.annotation(annotation::CAP_NET_BIND_SERVICE, &proxy.cap_net_bind_service) == "true";
    let mut capabilities = Map::new();
    let added: Vec<&str> = [(facts.tproxy(), "NET_ADMIN"), (bind, "NET_BIND_SERVICE")]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
    // Capabilities are no use to other users than root.
    let root = !added.is_empty();
    if root {
        capabilities.insert("add".to_owned(), json!(added));
    }
    capabilities.insert("drop".to_owned(), json!(["ALL"]));
    let mut out = json!({
        "allowPrivilegeEscalation": proxy.privileged,
        "capabilities": capabilities,
        "privileged": proxy.privileged,
        "readOnlyRootFilesystem": true,
        "runAsGroup": if root { 1337 } else { facts.gid },
        "runAsNonRoot": !root,
        "runAsUser": if root { 0 } else { facts.uid },
    });
    add_seccomp(facts, &mut out);
    out
}

pub(super) fn add_seccomp(facts: &Facts<'_>, security: &mut Value) {
    if let Some(profile) = facts
        .values()
        .global
        .proxy
        .seccomp_profile
        .as_ref()
        .filter(|p| !p.is_empty())
    {
        security["seccompProfile"] = Value::Object(profile.clone());
    }
}

/// `resources`: any of the annotations stands in place of all values of the chart.
pub(super) fn resources(facts: &Facts<'_>) -> Option<Map<String, Value>> {
    let amounts = |pairs: [(&str, &str); 2]| -> Map<String, Value> {
        let set = pairs.into_iter().filter_map(|(resource, name)| {
            let amount = facts.annotations.get(name)?;
            Some((resource.to_owned(), json!(amount)))
        });
        set.collect()
    };
    let own: Map<String, Value> = [
        (
            "requests",
            amounts([("cpu", annotation::CPU), ("memory", annotation::MEMORY)]),
        ),
        (
            "limits",
            amounts([("cpu", annotation::CPU_LIMIT), ("memory", annotation::MEMORY_LIMIT)]),
        ),
    ]
    .into_iter()
    .filter(|(_, amounts)| !amounts.is_empty())
    .map(|(name, amounts)| (name.to_owned(), Value::Object(amounts)))
    .collect();
    if own.is_empty() {
        facts.values().global.proxy.resources.clone().filter(|r| !r.is_empty())
    } else {
        Some(own)
    }
}

/// The image: the annotation or `configured` if that is a whole reference, else composed of hub, name, tag and type.
pub(super) fn image(facts: &Facts<'_>, configured: &str) -> String {
    let named = facts.annotation(annotation::PROXY_IMAGE, configured);
    if named.contains('/') {
        return named.to_owned();
    }
    let global = &facts.values().global;
    let of_config = facts.proxy.image.as_ref().map(|image| image.image_type.as_str());
    let kind = match facts.annotations.get(annotation::PROXY_IMAGE_TYPE) {
        Some(own) => own.as_str(),
        None => of_config.unwrap_or(&global.variant),
    };
    let name = if configured.is_empty() || configured.contains('/') {
        "proxy"
    } else {
        configured
    };
    format!("{}/{name}:{}", global.hub, with_type(&global.tag, kind))
}

/// `1.2-debug` of `1.2` or `1.2-distroless` and `debug`.
fn with_type(tag: &str, kind: &str) -> String {
    if kind.is_empty() {
        return tag.to_owned();
    }
    let plain = ["-distroless", "-debug"]
        .into_iter()
        .find_map(|end| tag.strip_suffix(end));
    let plain = plain.unwrap_or(tag);
    if kind == "default" {
        return plain.to_owned();
    }
    format!("{plain}-{kind}")
}

pub(super) fn add_pull_policy(facts: &Facts<'_>, container: &mut Map<String, Value>) {
    let policy = &facts.values().global.image_pull_policy;
    if !policy.is_empty() {
        container.insert("imagePullPolicy".to_owned(), json!(policy));
    }
}

pub(super) fn add_pull_secrets(facts: &Facts<'_>, spec: &mut Map<String, Value>) {
    let secrets = &facts.values().global.image_pull_secrets;
    if !secrets.is_empty() {
        let list: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
        spec.insert("imagePullSecrets".to_owned(), Value::Array(list));
    }
}

#[cfg(test)]
mod tests {
    use super::with_type;

    #[test]
    fn a_type_takes_the_place_of_the_tags_own() {
        for (tag, kind, expected) in [
            ("1.2", "", "1.2"),
            ("1.2", "debug", "1.2-debug"),
            ("1.2-distroless", "debug", "1.2-debug"),
            ("1.2-debug", "default", "1.2"),
            ("1.2-debug", "", "1.2-debug"),
        ] {
            assert_eq!(with_type(tag, kind), expected);
        }
    }
}
