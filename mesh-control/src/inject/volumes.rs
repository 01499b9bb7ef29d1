//! Volumes of the proxy, and where it sees them.

use serde_json::{Map, Value, json};

use super::annotation::{self, Named};
use super::template::Facts;

/// Whose volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sidecar,
    Gateway,
}

pub(super) fn mounts(facts: &Facts<'_>, role: Role) -> Result<Value, String> {
    let mut out = Vec::new();
    let mut mount = |name: &str, path: &str| out.push(json!({"name": name, "mountPath": path}));
    mount("workload-socket", "/var/run/secrets/workload-spiffe-uds");
    mount("credential-socket", "/var/run/secrets/credential-uds");
    mount("workload-certs", "/var/run/secrets/workload-spiffe-credentials");
    if of_the_control_plane(facts) {
        mount("istiod-ca-cert", "/var/run/secrets/istio");
        mount("istio-ca-crl", "/var/run/secrets/istio/crl");
    }
    mount("istio-data", "/var/lib/istio/data");
    if role == Role::Sidecar && facts.annotations.contains_key(annotation::BOOTSTRAP_OVERRIDE) {
        mount("custom-bootstrap-volume", "/etc/istio/custom-bootstrap");
    }
    mount("istio-envoy", "/etc/istio/proxy");
    mount("istio-token", "/var/run/secrets/tokens");
    mount("istio-podinfo", "/etc/istio/pod");
    if role == Role::Sidecar {
        out.extend(of_the_user(facts, annotation::USER_VOLUME_MOUNT)?);
    }
    Ok(Value::Array(out))
}

pub(super) fn volumes(facts: &Facts<'_>, role: Role) -> Result<Value, String> {
    let global = &facts.values().global;
    let mut out = vec![
        json!({"name": "workload-socket", "emptyDir": {}}),
        json!({"name": "credential-socket", "emptyDir": {}}),
        json!({"name": "workload-certs", "emptyDir": {}}),
    ];
    if let Some(map) = facts.annotations.get(annotation::BOOTSTRAP_OVERRIDE)
        && role == Role::Sidecar
    {
        out.push(json!({"name": "custom-bootstrap-volume", "configMap": {"name": map}}));
    }
    let field = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    out.extend([
        json!({"name": "istio-envoy", "emptyDir": {"medium": "Memory"}}),
        json!({"name": "istio-data", "emptyDir": {}}),
        json!({"name": "istio-podinfo", "downwardAPI": {"items": [
            field("labels", "metadata.labels"),
            field("annotations", "metadata.annotations"),
        ]}}),
        json!({"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": {
            "path": "istio-token",
            "expirationSeconds": 43200,
            "audience": global.sds.token.aud,
        }}]}}),
    ]);
    if of_the_control_plane(facts) {
        out.extend([
            json!({"name": "istiod-ca-cert", "configMap": {"name": global.trust_bundle_name}}),
            json!({"name": "istio-ca-crl", "configMap": {"name": "istio-ca-crl", "optional": true}}),
        ]);
    }
    if role == Role::Sidecar {
        out.extend(of_the_user(facts, annotation::USER_VOLUME)?);
    }
    Ok(Value::Array(out))
}

/// Roots are the control plane's, and not those of the cluster or of somebody else.
fn of_the_control_plane(facts: &Facts<'_>) -> bool {
    facts.values().global.pilot_cert_provider == "istiod"
}

fn of_the_user(facts: &Facts<'_>, name: &str) -> Result<Vec<Value>, String> {
    let Some(text) = facts.annotations.get(name) else {
        return Ok(Vec::new());
    };
    let named: Named = annotation::named(text).map_err(|why| format!("annotation {name}: {text:?} {why}"))?;
    let with_name = |(name, fields): (String, Value)| {
        let mut out: Map<String, Value> = Map::new();
        out.insert("name".to_owned(), json!(name));
        if let Value::Object(fields) = fields {
            out.extend(fields);
        }
        Value::Object(out)
    };
    // In the order of their names: the annotation is a map.
    let mut named: Vec<_> = named.into_iter().collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(named.into_iter().map(with_name).collect())
}
