//! The configuration as it came: encoded messages by type and name, with their versions. The builder reads and writes it,
//! the admin pages (`/config_dump`) show it, and the last-good file on disk is made of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

/// All resources. Only the control thread takes the lock.
#[derive(Debug, Default)]
pub struct Resources {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bootstrap: Option<Arc<[u8]>>,
    by_type: BTreeMap<String, BTreeMap<String, Resource>>,
}

/// One resource.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The accepted message, encoded; `None` when none was acceptable so far.
    pub bytes: Option<Arc<[u8]>>,
    /// Its version, as the control plane named it; empty for static ones.
    pub version: String,
    /// Where it came from.
    pub source: Source,
    /// When it was accepted.
    pub updated: SystemTime,
    /// A later version that was refused.
    pub rejected: Option<Rejected>,
    /// Accepted, and waits for what it depends on.
    pub warming: bool,
}

/// A version that was refused.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Encoded message.
    pub bytes: Arc<[u8]>,
    /// Its version.
    pub version: String,
    /// Path and reason.
    pub message: String,
    /// When.
    pub at: SystemTime,
}

/// Where a resource came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `static_resources` of the bootstrap.
    Static,
    /// The control plane, over this process's stream.
    Dynamic,
    /// The control plane of an earlier life, from the file on disk.
    LastGood,
}

impl Resources {
    /// The bootstrap, an encoded `envoy.config.bootstrap.v3.Bootstrap`.
    pub fn bootstrap(&self) -> Option<Arc<[u8]>> {
        self.inner.lock().bootstrap.clone()
    }

    /// Keeps the bootstrap for dumps.
    pub fn set_bootstrap(&self, bytes: Vec<u8>) {
        self.inner.lock().bootstrap = Some(bytes.into());
    }

    /// All resources of a type URL, by name.
    pub fn all(&self, type_url: &str) -> BTreeMap<String, Resource> {
        self.inner.lock().by_type.get(type_url).cloned().unwrap_or_default()
    }

    /// Names of all resources of a type URL.
    pub fn names(&self, type_url: &str) -> Vec<String> {
        let inner = self.inner.lock();
        inner
            .by_type
            .get(type_url)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect()
    }

    /// The accepted message of one resource.
    pub fn bytes(&self, type_url: &str, name: &str) -> Option<Arc<[u8]>> {
        self.inner.lock().by_type.get(type_url)?.get(name)?.bytes.clone()
    }

    /// Type URLs that there are resources of.
    pub fn types(&self) -> Vec<String> {
        self.inner.lock().by_type.keys().cloned().collect()
    }

    /// One resource.
    pub fn get(&self, type_url: &str, name: &str) -> Option<Resource> {
        self.inner.lock().by_type.get(type_url)?.get(name).cloned()
    }

    /// Adds or replaces a resource.
    pub fn set(&self, type_url: &str, name: &str, resource: Resource) {
        let mut inner = self.inner.lock();
        inner
            .by_type
            .entry(type_url.to_owned())
            .or_default()
            .insert(name.to_owned(), resource);
    }

    /// Changes a resource in place; nothing happens when there is none.
    pub fn update(&self, type_url: &str, name: &str, change: impl FnOnce(&mut Resource)) {
        let mut inner = self.inner.lock();
        if let Some(found) = inner.by_type.get_mut(type_url).and_then(|all| all.get_mut(name)) {
            change(found);
        }
    }

    /// Removes a resource.
    pub fn remove(&self, type_url: &str, name: &str) -> Option<Resource> {
        self.inner.lock().by_type.get_mut(type_url)?.remove(name)
    }
}
