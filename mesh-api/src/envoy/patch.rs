//! Patches of messages: read from JSON as people write it, and merged as protobuf merges.
//!
//! Scalars replace, messages merge, lists are appended ([`Lists::Append`]) or replaced, entries of maps replace those with
//! their key, and a member of a `oneof` displaces the others. Durations, wrappers (`BoolValue` …) and `Any` are values to
//! whoever writes a patch, so they replace too: half of one duration and half of another is nobody's wish.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use serde_json::Value as JsonValue;

use super::Any;
use super::json::{Json, JsonError};

/// What a merge does with lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// Those of the patch come behind those that are there.
    Append,
    /// Those of the patch take the place of those that are there.
    Replace,
}

/// Reads JSON as a message of the named type. Durations may be written in Go's way too (`50ms`), as Istio takes them, and a
/// `TypedStruct` of a type that is known becomes that type.
///
/// # Errors
/// When a field is unknown or has the wrong type.
pub fn read(json: &Json, type_name: &str, mut value: JsonValue) -> Result<DynamicMessage, JsonError> {
    canonical(json, &mut value, &json.descriptor(type_name)?);
    json.dynamic_from_value(type_name, value)
}

fn canonical(json: &Json, value: &mut JsonValue, kind: &MessageDescriptor) {
    match kind.full_name() {
        "google.protobuf.Duration" => {
            if let JsonValue::String(text) = value
                && let Ok(duration) = text.parse::<crate::istio::Duration>()
            {
                let duration = duration.get();
                *text = format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos());
            }
        }
        "google.protobuf.Any" => {
            open_typed_struct(json, value);
            let inner = value.get("@type").and_then(JsonValue::as_str);
            if let Some(inner) = inner.and_then(|name| json.descriptor(name).ok())
                && inner.full_name() != "google.protobuf.Any"
            {
                canonical(json, value, &inner);
            }
        }
        name if name.starts_with("google.protobuf.") => {}
        _ => {
            let JsonValue::Object(object) = value else { return };
            for (name, child) in object.iter_mut() {
                let field = kind
                    .get_field_by_name(name)
                    .or_else(|| kind.get_field_by_json_name(name));
                let Some(field) = field else { continue };
                let Kind::Message(inner) = field.kind() else { continue };
                if field.is_map() {
                    if let (JsonValue::Object(map), Kind::Message(inner)) =
                        (child, inner.map_entry_value_field().kind())
                    {
                        map.iter_mut().for_each(|(_, v)| canonical(json, v, &inner));
                    }
                } else if let JsonValue::Array(items) = child {
                    items.iter_mut().for_each(|v| canonical(json, v, &inner));
                } else {
                    canonical(json, child, &inner);
                }
            }
        }
    }
}

/// Writes the JSON of an `Any` with a `TypedStruct` as that of an `Any` with what is inside of it.
fn open_typed_struct(json: &Json, value: &mut JsonValue) {
    let text = |value: &JsonValue, name: &str| value.get(name).and_then(JsonValue::as_str).map(str::to_owned);
    if !text(value, "@type").is_some_and(|name| name.ends_with(".TypedStruct")) {
        return;
    }
    let Some(name) = text(value, "type_url").or_else(|| text(value, "typeUrl")) else {
        return;
    };
    let Ok(kind) = json.descriptor(&name) else { return };
    if kind.full_name().starts_with("google.protobuf.") {
        return;
    }
    let mut inner = match value.get_mut("value").map(JsonValue::take) {
        Some(JsonValue::Object(inner)) => inner,
        None | Some(JsonValue::Null) => serde_json::Map::new(),
        // Whoever reads it as it is says what is wrong.
        Some(other) => {
            value["value"] = other;
            return;
        }
    };
    let type_url = format!("type.googleapis.com/{}", kind.full_name());
    inner.insert("@type".to_owned(), type_url.into());
    *value = JsonValue::Object(inner);
}

/// Merges `patch` into `target`; both are of one type.
pub fn merge(target: &mut DynamicMessage, patch: &DynamicMessage, lists: Lists) {
    for (field, value) in patch.fields() {
        merge_field(target, &field, value, lists);
    }
}

fn merge_field(target: &mut DynamicMessage, field: &FieldDescriptor, value: &Value, lists: Lists) {
    match value {
        Value::List(items) if lists == Lists::Append => {
            if let Value::List(list) = target.get_field_mut(field) {
                list.extend(items.iter().cloned());
            }
        }
        Value::Map(entries) => {
            if let Value::Map(map) = target.get_field_mut(field) {
                map.extend(entries.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
        }
        Value::Message(inner) if target.has_field(field) && !is_value(&inner.descriptor()) => {
            if let Value::Message(message) = target.get_field_mut(field) {
                merge(message, inner, lists);
            }
        }
        _ => target.set_field(field, value.clone()),
    }
}

/// Messages that stand for one value.
fn is_value(kind: &MessageDescriptor) -> bool {
    matches!(
        kind.full_name(),
        "google.protobuf.Any"
            | "google.protobuf.Duration"
            | "google.protobuf.BoolValue"
            | "google.protobuf.BytesValue"
            | "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int32Value"
            | "google.protobuf.Int64Value"
            | "google.protobuf.StringValue"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value"
    )
}

/// As [`merge`], into a message of a known type. A patch of another type changes nothing.
///
/// # Errors
/// When the bytes of one of them are no message of that type, which those of our own making are.
pub fn merge_into<M: Message + Name + Default>(
    target: &mut M,
    patch: &DynamicMessage,
    lists: Lists,
) -> Result<(), prost::DecodeError> {
    if patch.descriptor().full_name() != M::full_name() {
        return Ok(());
    }
    let mut dynamic = DynamicMessage::decode(patch.descriptor(), target.encode_to_vec().as_slice())?;
    merge(&mut dynamic, patch, lists);
    *target = M::decode(dynamic.encode_to_vec().as_slice())?;
    Ok(())
}

/// Why two `Any` cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum AnyError {
    /// They hold different types.
    #[error("holds {patch}, which does not go into {target}")]
    Types {
        /// Type that is there.
        target: String,
        /// Type of the patch.
        patch: String,
    },
    /// The type, or its bytes, cannot be read.
    #[error(transparent)]
    Read(#[from] JsonError),
}

/// Merges what is inside two `Any` of one type.
///
/// # Errors
/// When the types differ, or cannot be read; the target is then as it was.
pub fn merge_any(json: &Json, target: &mut Any, patch: &Any, lists: Lists) -> Result<(), AnyError> {
    let kind = json.descriptor(&target.type_url)?;
    let patch_kind = json.descriptor(&patch.type_url)?;
    if patch_kind != kind {
        return Err(AnyError::Types {
            target: kind.full_name().to_owned(),
            patch: patch_kind.full_name().to_owned(),
        });
    }
    let decode = |any: &Any| {
        DynamicMessage::decode(kind.clone(), any.value.as_slice()).map_err(|source| JsonError::Bytes {
            type_name: kind.full_name().to_owned(),
            source,
        })
    };
    let mut message = decode(target)?;
    merge(&mut message, &decode(patch)?, lists);
    target.value = message.encode_to_vec();
    Ok(())
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
