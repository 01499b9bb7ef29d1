//! Nothing is ignored silently: a walk over every field that is set in a message, against the table of those that are
//! implemented or harmless ([`super::fields`]).

use mesh_api::envoy::json::Json;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::common::any_type;
use super::fields::{ALL, fields_of};
use super::invalid::Invalid;

/// All fields of an encoded message that mean something we do not do.
pub(crate) fn check(json: &Json, type_name: &str, bytes: &[u8]) -> Vec<Invalid> {
    let mut out = Vec::new();
    match decode(json, type_name, bytes) {
        Ok(message) => walk(json, &message, "", &mut out),
        Err(message) => out.push(Invalid::new(message)),
    }
    out
}

fn decode(json: &Json, type_name: &str, bytes: &[u8]) -> Result<DynamicMessage, String> {
    let descriptor = json.descriptor(type_name).map_err(|e| e.to_string())?;
    DynamicMessage::decode(descriptor, bytes).map_err(|e| format!("malformed {type_name}: {e}"))
}

fn walk(json: &Json, message: &DynamicMessage, path: &str, out: &mut Vec<Invalid>) {
    let name = message.descriptor();
    let name = name.full_name();
    if name == "google.protobuf.Any" {
        walk_any(json, message, path, out);
        return;
    }
    // Wrappers, durations, structs.
    if name.starts_with("google.protobuf.") {
        return;
    }
    let Some(known) = fields_of(name) else {
        out.push(refusal(path, &format!("{name} is not implemented")));
        return;
    };
    if known == ALL {
        return;
    }
    for field in message.unknown_fields() {
        out.push(refusal(path, &format!("field {} is not known", field.number())));
    }
    for (field, value) in message.fields() {
        let child = join(path, field.name());
        if !known.contains(&field.name()) {
            out.push(refusal(&child, "not implemented"));
            continue;
        }
        if name.ends_with(".HttpFilter") && field.name() == "typed_config" && optional_and_unknown(message, value) {
            continue;
        }
        walk_value(json, value, &child, out);
    }
}

fn walk_value(json: &Json, value: &Value, path: &str, out: &mut Vec<Invalid>) {
    match value {
        Value::Message(inner) => walk(json, inner, path, out),
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                walk_value(json, item, &format!("{path}[{i}]"), out);
            }
        }
        Value::Map(entries) => {
            for (key, item) in entries {
                let key = key.as_str().map(str::to_owned).unwrap_or_default();
                walk_value(json, item, &format!("{path}[{key:?}]"), out);
            }
        }
        _ => {}
    }
}

fn walk_any(json: &Json, message: &DynamicMessage, path: &str, out: &mut Vec<Invalid>) {
    let Some(any) = to_any(message) else { return };
    let kind = any_type(&any);
    if fields_of(&kind).is_none() {
        out.push(refusal(path, &format!("{kind} is not implemented")));
        return;
    }
    // What is inside a `TypedStruct` is looked at by whoever reads it; its type is in the table.
    if any.type_url.ends_with(&kind) && json.descriptor(&kind).is_ok() {
        match decode(json, &kind, &any.value) {
            Ok(inner) => walk(json, &inner, path, out),
            Err(e) => out.push(refusal(path, &e)),
        }
    }
}

fn to_any(message: &DynamicMessage) -> Option<mesh_api::envoy::Any> {
    let url = message.get_field_by_name("type_url")?;
    let value = message.get_field_by_name("value")?;
    Some(mesh_api::envoy::Any {
        type_url: url.as_str()?.to_owned(),
        value: value.as_bytes()?.to_vec(),
    })
}

/// An HTTP filter that the sender says may be left out, of a type that we do not have.
fn optional_and_unknown(filter: &DynamicMessage, config: &Value) -> bool {
    let optional = filter
        .get_field_by_name("is_optional")
        .is_some_and(|v| v.as_bool() == Some(true));
    let known = config
        .as_message()
        .and_then(to_any)
        .is_some_and(|any| fields_of(&any_type(&any)).is_some());
    optional && !known
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

fn refusal(path: &str, message: &str) -> Invalid {
    Invalid {
        path: path.to_owned(),
        message: message.to_owned(),
    }
}
