//! From the JSON Schema that `schemars` makes to the structural schema that Kubernetes takes: no references, every node
//! with one type, nothing about `null`.
//!
//! Markers on the types' fields: `x-required` lists the field as required in its parent, `x-alias` adds a second
//! spelling of it, `x-free-form` lets it hold any object.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// What passes through as it is.
const KEPT: [&str; 8] = [
    "type",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
];

/// The structural schema of a type.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    structural(settings.into_generator().into_root_schema_for::<T>().as_value())
}

fn structural(schema: &Value) -> Value {
    // `true`: anything.
    let Some(fields) = schema.as_object() else {
        return json!({ "x-kubernetes-preserve-unknown-fields": true });
    };
    let mut out = Map::new();
    if let Some(text) = fields.get("description").and_then(Value::as_str) {
        out.insert(
            "description".into(),
            json!(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        );
    }
    if fields.contains_key("x-free-form") {
        out.insert("type".into(), json!("object"));
        out.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
        return Value::Object(out);
    }
    // An optional field is either its type or null.
    if let Some(inner) = not_null(fields.get("anyOf")) {
        let Value::Object(mut inner) = structural(inner) else {
            return Value::Object(out);
        };
        inner.extend(out);
        return Value::Object(sorted(inner));
    }
    if let Some(names) = names(fields) {
        out.insert("enum".into(), json!(names));
        out.insert("type".into(), json!("string"));
        return Value::Object(sorted(out));
    }
    for key in KEPT {
        if let Some(value) = fields.get(key) {
            out.insert(key.into(), value.clone());
        }
    }
    if let Some(Value::Array(types)) = fields.get("type")
        && let Some(first) = types.iter().find(|t| *t != "null")
    {
        out.insert("type".into(), first.clone());
    }
    number(fields, &mut out);
    if let Some(items) = fields.get("items") {
        out.insert("items".into(), structural(items));
    }
    if let Some(Value::Object(properties)) = fields.get("properties") {
        object(properties, &mut out);
    } else if let Some(values) = fields.get("additionalProperties").filter(|v| **v != json!(false)) {
        out.insert("additionalProperties".into(), structural(values));
    }
    Value::Object(sorted(out))
}

/// The schema beside `{"type": "null"}`.
fn not_null(any_of: Option<&Value>) -> Option<&Value> {
    any_of?.as_array()?.iter().find(|schema| schema["type"] != "null")
}

/// Values of an enumeration of strings, with or without descriptions.
fn names(fields: &Map<String, Value>) -> Option<Vec<&Value>> {
    if let Some(Value::Array(list)) = fields.get("enum") {
        return Some(list.iter().filter(|v| !v.is_null()).collect());
    }
    let variants = fields.get("oneOf")?.as_array()?;
    Some(variants.iter().filter_map(|variant| variant.get("const")).collect())
}

/// Kubernetes knows the formats int32, int64, float and double; unsigned numbers are told by their limits.
fn number(fields: &Map<String, Value>, out: &mut Map<String, Value>) {
    match fields.get("format").and_then(Value::as_str) {
        Some("uint32") => {
            out.entry("maximum").or_insert(json!(u32::MAX));
        }
        Some("uint64") => {
            out.insert("format".into(), json!("int64"));
        }
        Some(format @ ("int32" | "int64" | "double")) => {
            out.insert("format".into(), json!(format));
        }
        _ => {}
    }
}

fn object(properties: &Map<String, Value>, out: &mut Map<String, Value>) {
    let mut converted = Map::new();
    let mut required = Vec::new();
    for (name, schema) in properties {
        let inner = structural(schema);
        if schema.get("x-required").is_some() {
            required.push(json!(name));
        }
        if let Some(alias) = schema.get("x-alias").and_then(Value::as_str) {
            converted.insert(alias.into(), inner.clone());
        }
        converted.insert(name.clone(), inner);
    }
    out.insert("type".into(), json!("object"));
    if !converted.is_empty() {
        out.insert("properties".into(), Value::Object(sorted(converted)));
    }
    if !required.is_empty() {
        out.insert("required".into(), Value::Array(required));
    }
}

/// Keys in alphabetical order, so that moving a field in a struct changes no manifest.
fn sorted(map: Map<String, Value>) -> Map<String, Value> {
    let mut entries: Vec<(String, Value)> = map.into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.into_iter().collect()
}
