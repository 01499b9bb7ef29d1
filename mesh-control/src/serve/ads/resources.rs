//! What one proxy should hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::envoy::{Any, type_url};

/// One resource. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Hash of the canonical bytes: equal versions mean equal resources.
    pub version: Arc<str>,
    /// The resource.
    pub body: Arc<Any>,
}

impl Resource {
    /// A resource with its version.
    pub fn new(body: Any, version: &str) -> Self {
        Resource {
            version: version.into(),
            body: Arc::new(body),
        }
    }
}

/// Resources of one type by name.
pub type ByName = BTreeMap<String, Resource>;

/// All resources of a proxy, by type URL.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    types: BTreeMap<String, ByName>,
}

impl Resources {
    /// The resources of one type.
    pub fn of(&self, type_url: &str) -> &ByName {
        static NONE: ByName = BTreeMap::new();
        self.types.get(type_url).unwrap_or(&NONE)
    }

    /// To fill it.
    pub fn of_mut(&mut self, type_url: &str) -> &mut ByName {
        self.types.entry(type_url.to_owned()).or_default()
    }

    /// Every type that has resources.
    pub fn types(&self) -> impl Iterator<Item = (&str, &ByName)> {
        self.types.iter().map(|(t, r)| (t.as_str(), r))
    }
}

/// The name by which metrics and tools call a type: `cds`, `lds`, ….
pub fn short_name(type_url: &str) -> &str {
    match type_url {
        type_url::CLUSTER => "cds",
        type_url::ENDPOINT => "eds",
        type_url::LISTENER => "lds",
        type_url::ROUTE => "rds",
        type_url::SECRET => "sds",
        type_url::NAME_TABLE => "nds",
        other => other.rsplit('/').next().unwrap_or(other),
    }
}

/// Whether a first request without names asks for everything of the type, as Istio and Envoy have it.
pub(super) fn wildcard_by_default(type_url: &str) -> bool {
    !matches!(type_url, type_url::ENDPOINT | type_url::ROUTE | type_url::SECRET)
}
