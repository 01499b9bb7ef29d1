//! The part of Istio's `ProxyConfig` that the data plane acts on.

use std::time::Duration;

use mesh_api::proxy_fields::without_effect;
use serde_json::{Map, Value};

/// Read from `PROXY_CONFIG`, YAML or JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxyConfig {
    pub(super) discovery_address: String,
    pub(super) plaintext: bool,
    pub(super) concurrency: Option<u32>,
    pub(super) termination_drain: Duration,
    pub(super) status_port: u16,
    pub(super) admin_port: u16,
    pub(super) proxy_metadata: Vec<(String, String)>,
    /// The whole object, for the node's metadata.
    pub(super) raw: Map<String, Value>,
    /// Fields that nothing acts on, with why.
    pub(super) idle: Vec<String>,
}

impl ProxyConfig {
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Vec<String>> {
        let raw: Map<String, Value> = match text {
            None => Map::new(),
            Some(text) => match serde_saphyr::from_str(text) {
                Ok(Value::Object(raw)) => raw,
                Ok(Value::Null) => Map::new(),
                Ok(_) => return Err(vec!["PROXY_CONFIG: expected an object".to_owned()]),
                Err(e) => return Err(vec![format!("PROXY_CONFIG: {e}")]),
            },
        };
        let mut errors = Vec::new();
        let mut out = ProxyConfig {
            discovery_address: "istiod.istio-system.svc:15012".to_owned(),
            plaintext: raw.get("controlPlaneAuthPolicy").and_then(Value::as_str) == Some("NONE"),
            concurrency: None,
            termination_drain: Duration::from_secs(5),
            status_port: mesh_api::names::port::STATUS,
            admin_port: mesh_api::names::port::ADMIN,
            proxy_metadata: Vec::new(),
            idle: Vec::new(),
            raw: Map::new(),
        };
        for (key, value) in &raw {
            let result = match key.as_str() {
                "discoveryAddress" => text_of(value).map(|v| out.discovery_address = v),
                "concurrency" => number(value).map(|v| out.concurrency = Some(v)),
                "terminationDrainDuration" => duration_of(value).map(|v| out.termination_drain = v),
                "statusPort" => number(value).map(|v| out.status_port = v),
                "proxyAdminPort" => number(value).map(|v| out.admin_port = v),
                "proxyMetadata" => strings_of(value).map(|v| out.proxy_metadata = v),
                // `plaintext` above, and which statistics are shown.
                "controlPlaneAuthPolicy" | "proxyStatsMatcher" => Ok(()),
                // For whoever writes the pod: in force when this program starts.
                "holdApplicationUntilProxyStarts" | "interceptionMode" | "image" => Ok(()),
                other => {
                    let why = without_effect(other).unwrap_or("is not known and has no effect");
                    out.idle.push(format!("{other} {why}"));
                    Ok(())
                }
            };
            if let Err(expected) = result {
                errors.push(format!("PROXY_CONFIG: {key}: expected {expected}, found {value}"));
            }
        }
        out.raw = raw;
        if errors.is_empty() { Ok(out) } else { Err(errors) }
    }
}

fn text_of(value: &Value) -> Result<String, &'static str> {
    value
        .as_str()
        .filter(|v| !v.is_empty())
        .map(str::to_owned)
        .ok_or("a text")
}

fn number<T: TryFrom<u64>>(value: &Value) -> Result<T, &'static str> {
    value
        .as_u64()
        .and_then(|n| T::try_from(n).ok())
        .ok_or("a whole number in its range")
}

fn strings_of(value: &Value) -> Result<Vec<(String, String)>, &'static str> {
    let object = value.as_object().ok_or("an object of texts")?;
    object
        .iter()
        .map(|(k, v)| match v {
            Value::String(text) => Ok((k.clone(), text.clone())),
            Value::Bool(_) | Value::Number(_) => Ok((k.clone(), v.to_string())),
            _ => Err("an object of texts"),
        })
        .collect()
}

/// A duration of protobuf's JSON (`5s`, `1.5s`) or of Go (`1m30s`).
fn duration_of(value: &Value) -> Result<Duration, &'static str> {
    value.as_str().and_then(parse_duration).ok_or("a duration such as 45s")
}

pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..split].parse().ok()?;
        let after = &rest[split..];
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let factor = match &after[..unit_end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * factor;
        rest = &after[unit_end..];
    }
    Duration::try_from_secs_f64(total).ok()
}
