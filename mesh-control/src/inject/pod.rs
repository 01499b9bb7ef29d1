//! Looking into Pods as JSON. What the Pod has and nobody here knows stays as it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The proxy's container.
pub const PROXY: &str = "istio-proxy";
/// The init container that writes the capture rules.
pub const INIT: &str = "istio-init";
/// The init container that checks that the CNI plugin wrote them.
pub const VALIDATION: &str = "istio-validation";

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn strings(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

pub(super) fn labels(pod: &Value) -> BTreeMap<String, String> {
    strings(pod, "/metadata/labels")
}

pub(super) fn annotations(pod: &Value) -> BTreeMap<String, String> {
    strings(pod, "/metadata/annotations")
}

/// Containers of a Pod, `containers` or `initContainers`.
pub(super) fn containers<'a>(pod: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = pod.get("spec").and_then(|spec| spec.get(field));
    list.and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn name(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn find<'a>(pod: &'a Value, field: &str, wanted: &str) -> Option<&'a Value> {
    containers(pod, field).find(|c| name(c) == wanted)
}

/// A list below `spec`, made if it is not there.
pub(super) fn list_mut<'a>(pod: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    array(object(pod, "spec")?, field)
}

/// A list below `spec` as it is.
pub(super) fn existing_list<'a>(pod: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    pod.get_mut("spec")?.get_mut(field)?.as_array_mut()
}

/// The proxy's container, wherever it stands.
pub(super) fn proxy_mut(pod: &mut Value) -> Option<&mut Map<String, Value>> {
    let field = ["containers", "initContainers"]
        .into_iter()
        .find(|field| find(pod, field, PROXY).is_some())?;
    existing_list(pod, field)?
        .iter_mut()
        .find(|c| name(c) == PROXY)?
        .as_object_mut()
}

/// A map of metadata, made if it is not there.
pub(super) fn metadata_mut<'a>(pod: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let metadata = object(pod, "metadata")?;
    let slot = metadata.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

fn object<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = value
        .as_object_mut()?
        .entry(field)
        .or_insert_with(|| Value::Object(Map::new()));
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

pub(super) fn array<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Vec<Value>> {
    let slot = map.entry(field).or_insert_with(|| Value::Array(Vec::new()));
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}

/// Sets environment variables of a container: in the place of one of the same name, else at the end.
pub(super) fn set_env<'a>(container: &mut Map<String, Value>, vars: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let Some(env) = array(container, "env") else { return };
    for (key, value) in vars {
        let var = serde_json::json!({"name": key, "value": value});
        match env.iter_mut().find(|other| name(other) == key) {
            Some(other) => *other = var,
            None => env.push(var),
        }
    }
}

/// Value of an environment variable of a container.
pub(super) fn env_of<'a>(container: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    let env = container.get("env").and_then(Value::as_array)?;
    env.iter().find(|var| name(var) == key)?.get("value")?.as_str()
}
