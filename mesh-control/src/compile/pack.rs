//! Canonical bytes of compiled resources, with versions that are hashes of them.

use std::collections::BTreeMap;

use mesh_api::envoy::canonical;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::{Any, type_url};
use prost::Name;
use sha2::{Digest, Sha256};

use super::{Compiled, Encoded};

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
pub fn packed(json: &Json, compiled: Compiled) -> Packed {
    let names = Encoded::new(&compiled.names);
    BTreeMap::from([
        (type_url::LISTENER, all(json, compiled.listeners)),
        (type_url::ROUTE, all(json, compiled.routes)),
        (type_url::CLUSTER, all(json, compiled.clusters)),
        (type_url::ENDPOINT, all(json, compiled.endpoints)),
        (type_url::SECRET, all(json, compiled.secrets)),
        (
            type_url::NAME_TABLE,
            all(json, BTreeMap::from([(String::new(), names)])),
        ),
    ])
}

fn all<M: Name>(json: &Json, messages: BTreeMap<String, Encoded<M>>) -> BTreeMap<String, Resource> {
    let name = M::full_name();
    let one = |message: Encoded<M>| {
        let mut value = message.bytes;
        if !message.canonical {
            canonical::sort(json, &name, &mut value);
        }
        let digest = Sha256::digest(&value);
        let start = digest.first_chunk().copied().unwrap_or_default();
        Resource {
            version: format!("{:016x}", u64::from_be_bytes(start)),
            any: Any {
                type_url: M::type_url(),
                value,
            },
        }
    };
    messages
        .into_iter()
        .map(|(name, message)| (name, one(message)))
        .collect()
}
