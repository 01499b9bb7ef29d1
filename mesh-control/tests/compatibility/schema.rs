//! The fields of a kind, from its schema.

use mesh_api::crd;
use mesh_api::istio::Kind;
use serde_json::{Value, json};

/// A field without fields.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// `http[].match[].headers{}.exact`: `[]` stands for an item of a list, `{}` for one of a map.
    pub(crate) path: String,
    /// Values of its type, any of which may be one that means something.
    pub(crate) values: Vec<Value>,
}

/// All fields of a kind, in the order of their names.
pub(crate) fn leaves(kind: Kind) -> Vec<Leaf> {
    let definition = crd::definition(kind).expect("a schema");
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut found = Vec::new();
    walk(spec, String::new(), &mut found);
    found
}

fn walk(schema: &Value, path: String, found: &mut Vec<Leaf>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, inner) in properties {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            walk(inner, path, found);
        }
    } else if schema["items"].is_object() {
        walk(&schema["items"], format!("{path}[]"), found);
    } else if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], format!("{path}{{}}"), found);
    } else {
        let values = values(schema);
        found.push(Leaf { path, values });
    }
}

fn values(schema: &Value) -> Vec<Value> {
    if let Some(names) = schema["enum"].as_array() {
        return names.clone();
    }
    match schema["type"].as_str() {
        Some("boolean") => vec![json!(true), json!(false)],
        Some("integer" | "number") => vec![json!(7), json!(70)],
        Some("string") => vec![json!("probe"), json!("7s"), json!("10.7.7.7"), json!("/probe")],
        _ => vec![json!({"probe": "7"})],
    }
}
