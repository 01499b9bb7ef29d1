//! The proto3 JSON form of Envoy's messages, by reflection over the descriptors of the `.proto` files.
//!
//! One mechanism reads Envoy YAML, writes configuration dumps, and (by `DynamicMessage`) merges patches. Typed `Any`
//! values are expanded in place (`"@type": …`). Output is canonical: fields in the order of their numbers, map keys
//! sorted, names as in the `.proto` file (`snake_case`), the form in which Envoy's own dumps and documents come.
//!
//! The pool of descriptors costs 10-20 MB while it lives: a long-running proxy makes one for a job and drops it.

use std::sync::{Arc, OnceLock};

use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, ReflectMessage, SerializeOptions,
};
use serde_json::Value;

use super::canonical::Plans;

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.fds"));

/// Why a message could not be read or written as JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The descriptor set knows no such message.
    #[error("unknown message type {0}")]
    UnknownType(String),
    /// The JSON does not fit the message; the text names the field where the reader knows it.
    #[error("{0}")]
    Read(String),
    /// The bytes are no such message.
    #[error("malformed {type_name}: {source}")]
    Bytes {
        /// Full message name.
        type_name: String,
        /// What prost says.
        source: prost::DecodeError,
    },
    /// The message cannot be expressed as JSON (an `Any` of an unknown type).
    #[error("{0}")]
    Write(String),
}

/// The descriptors of all of Envoy's v3 messages.
#[derive(Debug, Clone)]
pub struct Json {
    pool: DescriptorPool,
    /// Made when bytes are first to be canonical.
    plans: Arc<OnceLock<Plans>>,
}

impl Json {
    /// Builds the pool (about 20 ms).
    pub fn new() -> Self {
        // The set is compiled in and checked by this module's tests.
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("the descriptor set is written by our own build script");
        Json {
            pool,
            plans: Arc::default(),
        }
    }

    /// The one of this process, made when it is first wanted and kept. For the control plane: a proxy drops its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Json> = OnceLock::new();
        SHARED.get_or_init(Json::new)
    }

    pub(super) fn plans(&self) -> &Plans {
        self.plans.get_or_init(|| Plans::of_pool(&self.pool))
    }

    /// The descriptor of a message by its full name (`envoy.config.cluster.v3.Cluster`) or its type URL.
    ///
    /// # Errors
    /// When there is no such message.
    pub fn descriptor(&self, name: &str) -> Result<MessageDescriptor, JsonError> {
        let name = name.rsplit('/').next().unwrap_or(name);
        self.pool
            .get_message_by_name(name)
            .ok_or_else(|| JsonError::UnknownType(name.to_owned()))
    }

    /// All message types.
    #[cfg(test)]
    pub(super) fn messages(&self) -> impl Iterator<Item = MessageDescriptor> + '_ {
        self.pool.all_messages()
    }

    /// A message as canonical JSON.
    ///
    /// # Errors
    /// When an `Any` inside holds a type that Envoy's v3 API does not have.
    pub fn to_value<M: Message + prost::Name>(&self, message: &M) -> Result<Value, JsonError> {
        self.bytes_to_value(&M::full_name(), &message.encode_to_vec())
    }

    /// Encoded bytes of the named message as canonical JSON.
    ///
    /// # Errors
    /// As [`Json::to_value`], and when the bytes are no such message.
    pub fn bytes_to_value(&self, type_name: &str, bytes: &[u8]) -> Result<Value, JsonError> {
        let descriptor = self.descriptor(type_name)?;
        let message = DynamicMessage::decode(descriptor, bytes).map_err(|source| JsonError::Bytes {
            type_name: type_name.to_owned(),
            source,
        })?;
        self.dynamic_to_value(&message)
    }

    /// A dynamic message as canonical JSON.
    ///
    /// # Errors
    /// As [`Json::to_value`].
    pub fn dynamic_to_value(&self, message: &DynamicMessage) -> Result<Value, JsonError> {
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .skip_default_fields(true);
        let mut value = message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|e| JsonError::Write(e.to_string()))?;
        self.sort_maps(&mut value, &message.descriptor());
        Ok(value)
    }

    /// Reads JSON (or parsed YAML) as the message `M`. Both `snake_case` and `camelCase` names are taken; unknown fields
    /// are refused by name.
    ///
    /// # Errors
    /// When a field is unknown or has the wrong type.
    pub fn from_value<M: Message + prost::Name + Default>(&self, value: Value) -> Result<M, JsonError> {
        let dynamic = self.dynamic_from_value(&M::full_name(), value)?;
        M::decode(dynamic.encode_to_vec().as_slice()).map_err(|source| JsonError::Bytes {
            type_name: M::full_name(),
            source,
        })
    }

    /// Reads JSON as a dynamic message of the named type.
    ///
    /// # Errors
    /// As [`Json::from_value`].
    pub fn dynamic_from_value(&self, type_name: &str, value: Value) -> Result<DynamicMessage, JsonError> {
        let descriptor = self.descriptor(type_name)?;
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        DynamicMessage::deserialize_with_options(descriptor, value, &options)
            .map_err(|e| JsonError::Read(e.to_string()))
    }

    /// prost keeps maps in hash order; readers and comparisons want one order.
    fn sort_maps(&self, value: &mut Value, descriptor: &MessageDescriptor) {
        let Value::Object(object) = value else { return };
        match descriptor.full_name() {
            "google.protobuf.Any" => {
                let Some(name) = object.get("@type").and_then(Value::as_str).map(str::to_owned) else {
                    return;
                };
                if let Ok(inner) = self.descriptor(&name) {
                    if inner.full_name().starts_with("google.protobuf.") {
                        sort_all(value);
                    } else {
                        self.sort_maps(value, &inner);
                    }
                }
                return;
            }
            "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue" => {
                sort_all(value);
                return;
            }
            _ => {}
        }
        for (name, child) in object.iter_mut() {
            let Some(field) = descriptor.get_field_by_name(name) else {
                continue;
            };
            if field.is_map() {
                if let Value::Object(map) = child {
                    sort_keys(map);
                    let entry = field.kind();
                    let inner = entry.as_message().map(|m| m.map_entry_value_field().kind());
                    if let Some(Kind::Message(inner)) = inner {
                        map.iter_mut().for_each(|(_, v)| self.sort_maps(v, &inner));
                    }
                }
            } else if let Kind::Message(inner) = field.kind() {
                match child {
                    Value::Array(items) => items.iter_mut().for_each(|v| self.sort_maps(v, &inner)),
                    other => self.sort_maps(other, &inner),
                }
            }
        }
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::new()
    }
}

fn sort_keys(map: &mut serde_json::Map<String, Value>) {
    let mut entries: Vec<_> = std::mem::take(map).into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    map.extend(entries);
}

fn sort_all(value: &mut Value) {
    match value {
        Value::Object(map) => {
            sort_keys(map);
            map.iter_mut().for_each(|(_, v)| sort_all(v));
        }
        Value::Array(items) => items.iter_mut().for_each(sort_all),
        _ => {}
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
