//! IstioOperator's fields, and the values of our charts that mean the same.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::merge;

/// What to install.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Profile.
    pub(crate) profile: String,
    /// Values over those of the profile.
    pub(crate) values: Value,
}

const INGRESS: &str = "istio-ingressgateway";
const EGRESS: &str = "istio-egressgateway";

/// Fields of `k8s` that are called alike, for the control plane and for gateways.
const ALIKE: [&str; 6] = [
    "resources",
    "replicaCount",
    "nodeSelector",
    "tolerations",
    "affinity",
    "podAnnotations",
];

/// The settings of an IstioOperator's `spec`. `groups` are the top-level values of the chart.
///
/// # Errors
/// For every field that our charts have no value for, by its path.
pub(crate) fn values(spec: &Value, groups: &[String]) -> Result<Settings> {
    let mut out = Settings {
        profile: "default".to_owned(),
        values: Value::Object(Map::new()),
    };
    let fields = match spec {
        Value::Null => return Ok(out),
        Value::Object(fields) => fields,
        _ => bail!("settings are no map"),
    };
    for (key, value) in fields {
        match key.as_str() {
            "profile" => text(value).context("profile")?.clone_into(&mut out.profile),
            "hub" | "tag" => merge(&mut out.values, json!({"global": {key: value}})),
            "revision" | "meshConfig" => merge(&mut out.values, json!({key: value})),
            "values" => {
                for (group, value) in object(value, "values")? {
                    if !groups.iter().any(|g| g == group) {
                        bail!(
                            "values.{group}: the charts have no such value; there are {}",
                            groups.join(", ")
                        );
                    }
                    merge(&mut out.values, json!({group: value}));
                }
            }
            "components" => {
                for (name, component) in object(value, "components")? {
                    components(name, component, &mut out.values)?;
                }
            }
            "namespace" => bail!("namespace: give it by -i (--istioNamespace)"),
            key if groups.iter().any(|g| g == key) => bail!("{key} is a value of the charts; write values.{key}"),
            _ => bail!(
                "{key}: there is no such setting; there are profile, hub, tag, revision, meshConfig, values and components"
            ),
        }
    }
    Ok(out)
}

fn components(name: &str, value: &Value, out: &mut Value) -> Result<()> {
    let path = format!("components.{name}");
    match name {
        "base" => one(value, &path, "base", false, out),
        "cni" => one(value, &path, "cni", false, out),
        "pilot" => one(value, &path, "pilot", true, out),
        "ingressGateways" => gateways(value, &path, INGRESS, out),
        "egressGateways" => gateways(value, &path, EGRESS, out),
        _ => {
            bail!("{path}: there is no such component; there are base, pilot, cni, ingressGateways and egressGateways")
        }
    }
}

/// `enabled`, and `k8s` where the component has it.
fn one(value: &Value, path: &str, group: &str, k8s: bool, out: &mut Value) -> Result<()> {
    for (key, value) in object(value, path)? {
        match key.as_str() {
            "enabled" => merge(out, json!({group: {"enabled": value}})),
            "hub" | "tag" if group != "base" => merge(out, json!({group: {key: value}})),
            "k8s" if k8s => {
                for (field, value) in object(value, &format!("{path}.k8s"))? {
                    let values = match field.as_str() {
                        field if ALIKE.contains(&field) => json!({field: value}),
                        "env" => json!({"env": environment(value)}),
                        "hpaSpec" => json!({
                            "autoscaleMin": value["minReplicas"].as_u64().unwrap_or(1),
                            "autoscaleMax": value["maxReplicas"].as_u64().unwrap_or(5),
                        }),
                        "serviceAnnotations" => json!({field: value}),
                        _ => return Err(no_value(path, field)),
                    };
                    merge(out, json!({group: values}));
                }
            }
            _ => bail!("{path}.{key}: the charts have no value for it"),
        }
    }
    Ok(())
}

fn gateways(list: &Value, path: &str, usual: &str, out: &mut Value) -> Result<()> {
    let list = list.as_array().with_context(|| format!("{path} is no list"))?;
    for (index, gateway) in list.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if gateway.is_null() {
            continue;
        }
        let name = match gateway["name"].as_str() {
            Some(name) => name.to_owned(),
            None if index == 0 => usual.to_owned(),
            None => bail!("{path}: a second gateway needs a name"),
        };
        let mut values = Map::new();
        for (key, value) in object(gateway, &path)? {
            match key.as_str() {
                "name" => {}
                "enabled" | "labels" | "label" => {
                    let key = if key == "label" { "labels" } else { key };
                    values.insert(key.to_owned(), value.clone());
                }
                "k8s" => {
                    for (field, value) in object(value, &format!("{path}.k8s"))? {
                        match field.as_str() {
                            field if ALIKE.contains(&field) => values.insert(field.to_owned(), value.clone()),
                            "env" => values.insert("env".to_owned(), environment(value)),
                            "hpaSpec" => values.insert(
                                "autoscaling".to_owned(),
                                json!({
                                    "minReplicas": value["minReplicas"].as_u64().unwrap_or(1),
                                    "maxReplicas": value["maxReplicas"].as_u64().unwrap_or(5),
                                }),
                            ),
                            "service" | "serviceAnnotations" => {
                                let service = values.entry("service").or_insert_with(|| json!({}));
                                let more = if field == "service" {
                                    value.clone()
                                } else {
                                    json!({"annotations": value})
                                };
                                merge(service, more);
                                None
                            }
                            _ => return Err(no_value(&path, field)),
                        };
                    }
                }
                _ => bail!("{path}.{key}: the charts have no value for it"),
            }
        }
        merge(out, json!({"gateways": {name: values}}));
    }
    Ok(())
}

fn no_value(path: &str, field: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{path}.k8s.{field}: the charts have no value for it; there are {}, env, hpaSpec, and of gateways service",
        ALIKE.join(", ")
    )
}

/// Kubernetes' list of variables as the charts' map.
fn environment(value: &Value) -> Value {
    match value.as_array() {
        None => value.clone(),
        Some(list) => {
            let pair = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["value"].clone()));
            Value::Object(list.iter().filter_map(pair).collect())
        }
    }
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>> {
    value.as_object().with_context(|| format!("{path} is no map"))
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("is no text")
}
