//! `google.protobuf.Struct` (node metadata, say) to and from JSON, without descriptors.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::pb::google::protobuf::{ListValue, value::Kind};
use super::{ProtoValue, Struct};

/// A JSON object as a `Struct`. Numbers become doubles, the only kind that a `Struct` has.
pub fn to_struct(object: &Map<String, Value>) -> Struct {
    Struct {
        fields: object.iter().map(|(k, v)| (k.clone(), to_proto(v))).collect(),
    }
}

/// A `Struct` as a JSON object, keys sorted.
pub fn from_struct(fields: &Struct) -> Value {
    let sorted: BTreeMap<&String, &ProtoValue> = fields.fields.iter().collect();
    let entries = sorted.into_iter().map(|(key, value)| (key.clone(), from_proto(value)));
    Value::Object(entries.collect())
}

fn to_proto(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_proto).collect(),
        }),
        Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    ProtoValue { kind: Some(kind) }
}

fn from_proto(value: &ProtoValue) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(n)) => (*n).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::BoolValue(b)) => (*b).into(),
        Some(Kind::StructValue(fields)) => from_struct(fields),
        Some(Kind::ListValue(list)) => list.values.iter().map(from_proto).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let value = serde_json::json!({"a": [1.5, true, null, {"b": "c"}], "d": {}});
        let object = value.as_object().expect("an object");
        assert_eq!(from_struct(&to_struct(object)), value);
    }
}
