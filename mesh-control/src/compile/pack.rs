//! Canonical bytes of compiled resources, with versions that are hashes of them.

use std::collections::BTreeMap;

use mesh_api::envoy::canonical;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::{Any, type_url};
use prost::{Message, Name};
use sha2::{Digest, Sha256};

use super::Compiled;

/// One resource as it travels.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Type URL and canonical bytes.
    pub any: Any,
    /// Hash of the bytes, 16 hexadecimal digits: equal for equal meaning.
    pub version: String,
}

/// Resources by type URL (see [`type_url`]), then by name.
pub type Packed = BTreeMap<&'static str, BTreeMap<String, Resource>>;

/// Packs all resources canonically. Types without any resource are there with an empty map.
pub fn packed(json: &Json, compiled: &Compiled) -> Packed {
    let mut names = BTreeMap::new();
    names.insert(String::new(), &compiled.names);
    BTreeMap::from([
        (type_url::LISTENER, all(json, &compiled.listeners)),
        (type_url::ROUTE, all(json, &compiled.routes)),
        (type_url::CLUSTER, all(json, &compiled.clusters)),
        (type_url::ENDPOINT, all(json, &compiled.endpoints)),
        (type_url::SECRET, all(json, &compiled.secrets)),
        (
            type_url::NAME_TABLE,
            names.into_iter().map(|(name, m)| (name, one(json, m))).collect(),
        ),
    ])
}

fn all<M: Message + Name>(json: &Json, messages: &BTreeMap<String, M>) -> BTreeMap<String, Resource> {
    messages.iter().map(|(name, m)| (name.clone(), one(json, m))).collect()
}

fn one<M: Message + Name>(json: &Json, message: &M) -> Resource {
    let any = canonical::pack(json, message);
    let digest = Sha256::digest(&any.value);
    let version = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    Resource { any, version }
}
