//! Kubernetes' strategic merge over Pods: maps are joined, lists with a key are joined element by element, other lists are
//! replaced.

use serde_json::{Map, Value};

/// Replaces, deletes or joins, in place of the values themselves.
const DIRECTIVE: &str = "$patch";

/// How lists of this field are joined: by which field of their elements.
fn merge_key(field: &str) -> Option<&'static str> {
    Some(match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "schedulingGates"
        | "resourceClaims" => "name",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "ports" => "containerPort",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        "ownerReferences" => "uid",
        _ => return None,
    })
}

/// Lays one Pod over another, field by field; `null` removes a field.
///
/// # Errors
/// When an element of a joined list has no key, or a directive is not known; the text names the field.
pub(super) fn merge(base: &mut Value, over: &Value) -> Result<(), String> {
    let (Value::Object(base), Value::Object(over)) = (base, over) else {
        return Err("a Pod must be a map of fields".to_owned());
    };
    merge_maps(base, over, "")
}

/// Fields of which a map has one: what the overlay has takes the place of the others, where Kubernetes' own merge would leave
/// both, and the API server then refuses the Pod.
fn exclusive(place: &str) -> &'static [&'static str] {
    match place {
        "env" => &["value", "valueFrom"],
        "readinessProbe" | "livenessProbe" | "startupProbe" | "preStop" | "postStart" => {
            &["exec", "httpGet", "tcpSocket", "grpc", "sleep"]
        }
        _ => &[],
    }
}

fn drop_others(base: &mut Map<String, Value>, over: &Map<String, Value>, place: &str) {
    if place == "volumes" {
        if over.keys().any(|key| key != "name") {
            base.retain(|key, _| key == "name" || over.contains_key(key));
        }
        return;
    }
    let fields = exclusive(place);
    if fields.iter().any(|field| over.contains_key(*field)) {
        base.retain(|key, _| over.contains_key(key) || !fields.contains(&key.as_str()));
    }
}

fn merge_maps(base: &mut Map<String, Value>, over: &Map<String, Value>, path: &str) -> Result<(), String> {
    match over.get(DIRECTIVE).and_then(Value::as_str) {
        None if !over.contains_key(DIRECTIVE) => {}
        Some("merge") => {}
        Some("replace") => {
            base.clear();
            base.extend(
                over.iter()
                    .filter(|(k, _)| *k != DIRECTIVE)
                    .map(|(k, v)| (k.clone(), v.clone())),
            );
            return Ok(());
        }
        Some("delete") => {
            base.clear();
            return Ok(());
        }
        _ => return Err(format!("{path}.{DIRECTIVE}: must be merge, replace or delete")),
    }
    for (key, value) in over {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if key == DIRECTIVE {
            continue;
        }
        if key.starts_with('$') {
            return Err(format!(
                "{path}: this directive is not supported; write the fields themselves"
            ));
        }
        match value {
            Value::Null => {
                base.shift_remove(key);
            }
            Value::Object(over) => {
                let slot = base.entry(key.as_str()).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    drop_others(slot, over, key);
                    merge_maps(slot, over, &path)?;
                }
            }
            Value::Array(over) => {
                let before = match base.get_mut(key).map(Value::take) {
                    Some(Value::Array(list)) => list,
                    _ => Vec::new(),
                };
                base.insert(key.clone(), Value::Array(merge_lists(before, over, key, &path)?));
            }
            plain => {
                base.insert(key.clone(), plain.clone());
            }
        }
    }
    Ok(())
}

fn merge_lists(before: Vec<Value>, over: &[Value], field: &str, path: &str) -> Result<Vec<Value>, String> {
    if field == "finalizers" {
        let mut out = before;
        for value in over {
            if !out.contains(value) {
                out.push(value.clone());
            }
        }
        return Ok(out);
    }
    let Some(key) = merge_key(field) else {
        return Ok(over.to_vec());
    };
    if over
        .iter()
        .any(|e| e.get(DIRECTIVE).and_then(Value::as_str) == Some("replace"))
    {
        return Ok(over.iter().filter(|e| e.get(DIRECTIVE).is_none()).cloned().collect());
    }
    let mut before: Vec<Option<Value>> = before.into_iter().map(Some).collect();
    // Elements of the overlay in its order, each with the place that it had before.
    let mut joined: Vec<(Option<usize>, Value)> = Vec::new();
    for (index, element) in over.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let fields = element
            .as_object()
            .ok_or_else(|| format!("{path}: must be a map of fields"))?;
        let name = fields.get(key).ok_or_else(|| format!("{path}: {key} is missing"))?;
        let place = before
            .iter()
            .position(|e| e.as_ref().is_some_and(|e| e.get(key) == Some(name)));
        if fields.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
            if let Some(place) = place {
                before[place] = None;
            }
            continue;
        }
        if let Some((_, same)) = joined.iter_mut().find(|(_, e)| e.get(key) == Some(name)) {
            merge_value(same, fields, field, &path)?;
            continue;
        }
        let mut value = place
            .and_then(|i| before[i].take())
            .unwrap_or_else(|| Value::Object(Map::new()));
        merge_value(&mut value, fields, field, &path)?;
        joined.push((place, value));
    }
    Ok(interleave(before, joined))
}

fn merge_value(base: &mut Value, over: &Map<String, Value>, field: &str, path: &str) -> Result<(), String> {
    match base {
        Value::Object(base) => {
            drop_others(base, over, field);
            merge_maps(base, over, path)
        }
        _ => Err(format!("{path}: must be a map of fields")),
    }
}

/// The order that Kubernetes gives: the overlay's elements as they stand there; one that only the base has goes before
/// the first of them that it preceded in the base, else to the end.
fn interleave(before: Vec<Option<Value>>, joined: Vec<(Option<usize>, Value)>) -> Vec<Value> {
    let mut rest = before
        .into_iter()
        .enumerate()
        .filter_map(|(place, element)| Some((place, element?)))
        .peekable();
    let mut out = Vec::new();
    for (place, element) in joined {
        while let Some(place) = place
            && let Some((_, earlier)) = rest.next_if(|(other, _)| *other < place)
        {
            out.push(earlier);
        }
        out.push(element);
    }
    out.extend(rest.map(|(_, element)| element));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut base: Value, over: &Value) -> Value {
        merge(&mut base, over).expect("merged");
        base
    }

    #[test]
    fn maps_are_joined_and_null_removes() {
        let base = json!({"spec": {"a": 1, "b": {"c": 2, "d": 3}}});
        let over = json!({"spec": {"b": {"c": null, "e": 4}, "f": {"g": null}}});
        assert_eq!(
            merged(base, &over),
            json!({"spec": {"a": 1, "b": {"d": 3, "e": 4}, "f": {}}})
        );
    }

    #[test]
    fn lists_with_a_key_are_joined_in_the_overlays_order() {
        let base = json!({"containers": [
            {"name": "web", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["x", "y"]},
            {"name": "side"}]});
        let over = json!({"containers": [
            {"name": "proxy"},
            {"name": "web", "env": [{"name": "C", "value": "3"}, {"name": "B", "value": "4"}], "args": ["z"]}]});
        let expected = json!({"containers": [
            {"name": "proxy"},
            {"name": "web", "env": [
                {"name": "C", "value": "3"}, {"name": "A", "value": "1"}, {"name": "B", "value": "4"}], "args": ["z"]},
            {"name": "side"}]});
        let result = merged(base, &over);
        assert_eq!(result, expected);
        assert_eq!(merged(result.clone(), &over), result, "again");
    }

    #[test]
    fn directives_delete_and_replace() {
        let base = json!({"containers": [{"name": "a"}, {"name": "b"}], "volumes": [{"name": "v", "emptyDir": {}}],
            "securityContext": {"runAsUser": 1}});
        let over = json!({
            "containers": [{"name": "a", "$patch": "delete"}],
            "volumes": [{"$patch": "replace"}, {"name": "w", "hostPath": {"path": "/"}}],
            "securityContext": {"$patch": "replace", "fsGroup": 2}});
        assert_eq!(
            merged(base, &over),
            json!({"containers": [{"name": "b"}], "volumes": [{"name": "w", "hostPath": {"path": "/"}}],
                "securityContext": {"fsGroup": 2}})
        );
    }

    #[test]
    fn of_fields_that_exclude_each_other_the_overlays_stays() {
        let base = json!({"containers": [{"name": "a",
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
                "readinessProbe": {"httpGet": {"port": 1}, "periodSeconds": 3}}],
            "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]});
        let over = json!({"containers": [{"name": "a",
                "env": [{"name": "A", "value": "1"}],
                "readinessProbe": {"exec": {"command": ["true"]}}}],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
        assert_eq!(
            merged(base, &over),
            json!({"containers": [{"name": "a",
                "env": [{"name": "A", "value": "1"}],
                "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 3}}],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}]})
        );
    }

    #[test]
    fn what_cannot_be_joined_is_named() {
        for (over, expected) in [
            (
                json!({"spec": {"containers": [{"image": "x"}]}}),
                "spec.containers[0]: name is missing",
            ),
            (
                json!({"spec": {"containers": ["x"]}}),
                "spec.containers[0]: must be a map of fields",
            ),
            (json!([]), "a Pod must be a map of fields"),
            (
                json!({"spec": {"$patch": "turn"}}),
                "spec.$patch: must be merge, replace or delete",
            ),
            (
                json!({"spec": {"$retainKeys": []}}),
                "spec.$retainKeys: this directive is not supported; write the fields themselves",
            ),
        ] {
            assert_eq!(merge(&mut json!({"spec": {}}), &over), Err(expected.to_owned()));
        }
    }
}
