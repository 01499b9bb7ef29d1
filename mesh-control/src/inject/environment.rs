//! Environment of the proxy's container.

use serde_json::{Map, Value, json};

use super::annotation;
use super::pod::containers;
use super::template::Facts;

/// All variables, in the order of Istio's template.
pub(super) fn of_proxy(facts: &Facts<'_>, sidecar: bool) -> Vec<Value> {
    let values = facts.values();
    let global = &values.global;
    let mut env = Env(Vec::new());
    if sidecar && facts.mesh.inbound_traffic_policy.mode.as_str() == "LOCALHOST" {
        env.text("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true");
    }
    env.text("JWT_POLICY", &global.jwt_policy);
    env.text("PILOT_CERT_PROVIDER", &global.pilot_cert_provider);
    env.text("CA_ADDR", &ca_address(facts));
    env.field("POD_NAME", "metadata.name");
    env.field("POD_NAMESPACE", "metadata.namespace");
    env.field("INSTANCE_IP", "status.podIP");
    env.field("SERVICE_ACCOUNT", "spec.serviceAccountName");
    env.field("HOST_IP", "status.hostIP");
    env.resource("ISTIO_CPU_LIMIT", "limits.cpu");
    env.text("PROXY_CONFIG", &format!("{}\n", facts.proxy.to_json()));
    env.text("ISTIO_META_POD_PORTS", &pod_ports(&facts.pod));
    env.text("ISTIO_META_APP_CONTAINERS", &facts.app_containers().join(","));
    env.resource("GOMEMLIMIT", "limits.memory");
    env.resource("GOMAXPROCS", "limits.cpu");
    env.text("ISTIO_META_CLUSTER_ID", &facts.cluster);
    env.field("ISTIO_META_NODE_NAME", "spec.nodeName");
    let mode = if sidecar {
        facts.interception()
    } else {
        facts.proxy.interception_mode.as_str()
    };
    env.text("ISTIO_META_INTERCEPTION_MODE", mode);
    if !facts.network.is_empty() {
        env.text("ISTIO_META_NETWORK", &facts.network);
    }
    let label = facts.label("service.istio.io/workload-name").filter(|_| sidecar);
    let workload = label.unwrap_or(&facts.workload.name);
    if !workload.is_empty() {
        env.text("ISTIO_META_WORKLOAD_NAME", workload);
    }
    if let Some(owner) = facts.workload.owner(facts.namespace) {
        env.text("ISTIO_META_OWNER", &owner);
    }
    if sidecar && facts.annotations.contains_key(annotation::BOOTSTRAP_OVERRIDE) {
        env.text(
            "ISTIO_BOOTSTRAP_OVERRIDE",
            "/etc/istio/custom-bootstrap/custom_bootstrap.json",
        );
    }
    let trust_domain = facts.trust_domain();
    let mesh = if global.mesh_id.is_empty() {
        trust_domain
    } else {
        &global.mesh_id
    };
    if !mesh.is_empty() {
        env.text("ISTIO_META_MESH_ID", mesh);
    }
    if !trust_domain.is_empty() {
        env.text("TRUST_DOMAIN", trust_domain);
    }
    for (name, value) in &facts.proxy.proxy_metadata {
        env.text(name, value);
    }
    env.0
}

fn ca_address(facts: &Facts<'_>) -> String {
    let values = facts.values();
    if !values.global.ca_address.is_empty() {
        return values.global.ca_address.clone();
    }
    let revision = match values.revision.as_str() {
        "" => String::new(),
        name => format!("-{name}"),
    };
    format!("istiod{revision}.{}.svc:15012", values.global.istio_namespace)
}

/// A JSON list of the containers' ports, one a line.
fn pod_ports(pod: &Value) -> String {
    let mut out = "[".to_owned();
    let mut first = true;
    for port in containers(pod, "containers")
        .filter_map(|c| c.get("ports")?.as_array())
        .flatten()
    {
        // As the API server would write them.
        let mut written = Map::new();
        for name in ["name", "hostPort", "containerPort", "protocol", "hostIP"] {
            if let Some(value) = port.get(name).filter(|v| !v.is_null()) {
                written.insert(name.to_owned(), value.clone());
            }
        }
        let comma = if first { "" } else { "," };
        first = false;
        out.push_str(&format!("\n    {comma}{}", Value::Object(written)));
    }
    out + "\n]"
}

struct Env(Vec<Value>);

impl Env {
    fn text(&mut self, name: &str, value: &str) {
        self.0.push(json!({"name": name, "value": value}));
    }

    fn field(&mut self, name: &str, path: &str) {
        self.0
            .push(json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    }

    fn resource(&mut self, name: &str, resource: &str) {
        self.0
            .push(json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": "1"}}}));
    }
}
