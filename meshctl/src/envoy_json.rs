//! Envoy's messages as istioctl prints them: proto3 JSON with names in `camelCase`, where admin ports give `snake_case`.

use mesh_api::envoy::json::Json;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

/// A message of the named type, with its fields under their JSON names. What the type does not know stays as it is: the
/// proxy may be newer than this program.
pub(crate) fn camel_case(type_name: &str, value: &Value) -> Value {
    match Json::shared().descriptor(type_name) {
        Ok(descriptor) => message(&descriptor, value),
        Err(_) => value.clone(),
    }
}

/// As [`camel_case`], of a message that stands for itself and so does not say its type.
pub(crate) fn bare(type_name: &str, value: &Value) -> Value {
    let mut out = camel_case(type_name, value);
    out.as_object_mut().and_then(|fields| fields.remove("@type"));
    out
}

fn message(descriptor: &MessageDescriptor, value: &Value) -> Value {
    let Value::Object(fields) = value else {
        return value.clone();
    };
    if descriptor.full_name() == "google.protobuf.Any" {
        let inner = fields.get("@type").and_then(Value::as_str);
        return match inner.map(|name| Json::shared().descriptor(name)) {
            Some(Ok(inner)) if inner.full_name() != "google.protobuf.Any" => message(&inner, value),
            _ => value.clone(),
        };
    }
    if descriptor.full_name().starts_with("google.protobuf.") {
        return value.clone();
    }
    let mut out = Map::new();
    for (key, child) in fields {
        let field = descriptor
            .get_field_by_name(key)
            .or_else(|| descriptor.get_field_by_json_name(key));
        match field {
            Some(field) => out.insert(field.json_name().to_owned(), field_value(&field, child)),
            None => out.insert(key.clone(), child.clone()),
        };
    }
    Value::Object(out)
}

fn field_value(field: &FieldDescriptor, value: &Value) -> Value {
    let Kind::Message(inner) = field.kind() else {
        return value.clone();
    };
    match value {
        Value::Object(entries) if field.is_map() => {
            let Kind::Message(of_values) = inner.map_entry_value_field().kind() else {
                return value.clone();
            };
            let entries = entries.iter().map(|(k, v)| (k.clone(), message(&of_values, v)));
            Value::Object(entries.collect())
        }
        Value::Array(list) if field.is_list() => Value::Array(list.iter().map(|one| message(&inner, one)).collect()),
        other => message(&inner, other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_get_their_json_names_and_keys_of_maps_stay() {
        let cluster = json!({
            "name": "c", "connect_timeout": "1s", "not_known_yet": {"a_b": 1},
            "eds_cluster_config": {"service_name": "s"},
            "metadata": {"filter_metadata": {"my_key": {"some_field": [{"x_y": 1}]}}},
            "transport_socket": {"name": "t", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"alpn_protocols": ["h2"]}}},
            "typed_extension_protocol_options": {"a_b": {"@type": "type.googleapis.com/not.There", "x_y": 1}},
        });
        assert_eq!(
            camel_case("envoy.config.cluster.v3.Cluster", &cluster),
            json!({
                "name": "c", "connectTimeout": "1s", "not_known_yet": {"a_b": 1},
                "edsClusterConfig": {"serviceName": "s"},
                "metadata": {"filterMetadata": {"my_key": {"some_field": [{"x_y": 1}]}}},
                "transportSocket": {"name": "t", "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "commonTlsContext": {"alpnProtocols": ["h2"]}}},
                "typedExtensionProtocolOptions": {"a_b": {"@type": "type.googleapis.com/not.There", "x_y": 1}},
            })
        );
    }
}
