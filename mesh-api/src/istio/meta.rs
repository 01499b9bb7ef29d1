//! The envelope of every object: `metadata` and `spec`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What identifies an object, and what its owner wrote on it. The part of Kubernetes' `metadata` that the mesh reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Name, unique in the namespace for one kind.
    pub name: String,
    /// Namespace; empty for what has none. Sources fill in `default` before they hand the object on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When it was made: the oldest object wins where several speak for one thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<jiff::Timestamp>,
    /// Version of the stored object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Version of the `spec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Unique in time and space.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// An object: what it is called, and what it says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object<T> {
    /// Name, namespace, labels.
    pub meta: ObjectMeta,
    /// The kind's own part.
    pub spec: T,
}
