//! What snapshots and proxies share: compiled scopes, names, and resources of equal bytes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use mesh_api::envoy::json::Json;
use mesh_api::envoy::type_url::{CLUSTER, ENDPOINT};
use parking_lot::Mutex;

use super::ads::resources::{Content, Layer, Name, Resource};
use crate::compile::{self, Compiled, Scope};
use crate::store::Store;
use crate::store::change::{Change, Moved};

/// Changes that are remembered: whoever is further behind is compiled anew.
const REMEMBERED: usize = 64;
/// A scope that nobody asked for during so many snapshots has no proxy any more.
const UNUSED: u64 = 16;

/// What changed from one snapshot to the next, for some time back.
#[derive(Debug, Clone)]
pub(super) struct History {
    /// Number of the snapshot.
    pub(super) number: u64,
    /// The changes that made the snapshots before this one into it, the last one last; each of endpoints only.
    moved: Vec<Arc<Moved>>,
}

impl History {
    pub(super) fn start() -> Self {
        History {
            number: 1,
            moved: Vec::new(),
        }
    }

    pub(super) fn then(&self, change: Change) -> Self {
        let mut moved = self.moved.clone();
        match change {
            Change::Everything => moved.clear(),
            Change::Endpoints(m) => moved.push(Arc::new(m)),
        }
        if moved.len() > REMEMBERED {
            moved.remove(0);
        }
        History {
            number: self.number + 1,
            moved,
        }
    }

    /// All changes since a snapshot; `None` when more than endpoints changed, or nobody remembers.
    pub(super) fn since(&self, number: u64) -> Option<&[Arc<Moved>]> {
        let back = usize::try_from(self.number.checked_sub(number)?).ok()?;
        let first = self.moved.len().checked_sub(back)?;
        self.moved.get(first..)
    }
}

/// Lives as long as the control plane.
#[derive(Debug, Default)]
pub(super) struct Shares {
    scopes: Mutex<HashMap<Scope, Slot>>,
    interned: Mutex<Interned>,
}

#[derive(Debug)]
struct Slot {
    /// Last snapshot for which somebody asked.
    used: u64,
    /// Held while the scope is compiled, so that this is done once.
    compiled: Arc<Mutex<Option<Scoped>>>,
}

#[derive(Debug)]
struct Scoped {
    number: u64,
    layer: Arc<Layer>,
}

/// Resources and names that are in use, so that equal ones are kept once.
#[derive(Debug, Default)]
struct Interned {
    names: HashSet<Name>,
    /// By version.
    resources: HashMap<Arc<str>, Weak<Content>>,
    /// Size after the last sweep.
    swept: usize,
}

impl Shares {
    /// What the proxies of a scope share in the snapshot of this store. `warn` is told what compiling finds.
    pub(super) fn layer(
        &self,
        store: &Store,
        history: &History,
        scope: &Scope,
        json: &Json,
        warn: &dyn Fn(&Compiled),
    ) -> Arc<Layer> {
        let slot = {
            let mut scopes = self.scopes.lock();
            let slot = scopes.entry(scope.clone()).or_insert_with(|| Slot {
                used: history.number,
                compiled: Arc::default(),
            });
            slot.used = slot.used.max(history.number);
            slot.compiled.clone()
        };
        let mut known = slot.lock();
        let layer = match known.as_ref() {
            Some(known) if known.number == history.number => return known.layer.clone(),
            Some(known) => self.patched(known, store, history, scope, json, warn),
            None => None,
        };
        let layer = layer.unwrap_or_else(|| {
            let compiled = compile::shared(store, scope);
            warn(&compiled);
            Arc::new(self.pack(json, compiled))
        });
        // A proxy that is late asks for a snapshot that is not the present one any more.
        if known.as_ref().is_none_or(|k| k.number < history.number) {
            *known = Some(Scoped {
                number: history.number,
                layer: layer.clone(),
            });
        }
        layer
    }

    /// What is known, with only those services compiled anew whose endpoints have changed.
    fn patched(
        &self,
        known: &Scoped,
        store: &Store,
        history: &History,
        scope: &Scope,
        json: &Json,
        warn: &dyn Fn(&Compiled),
    ) -> Option<Arc<Layer>> {
        let services: HashSet<_> = history.since(known.number)?.iter().flat_map(|m| &m.services).collect();
        let compiled = compile::moved(store, scope, services)?;
        warn(&compiled);
        let packed = self.pack(json, compiled);
        let mut layer: Option<Layer> = None;
        for type_url in [CLUSTER, ENDPOINT] {
            for (name, resource) in packed.of(type_url) {
                if known.layer.of(type_url).get(name)?.version != resource.version {
                    let layer = layer.get_or_insert_with(|| (*known.layer).clone());
                    layer.of_mut(type_url).insert(name.clone(), resource.clone());
                }
            }
        }
        Some(layer.map_or_else(|| known.layer.clone(), Arc::new))
    }

    /// The compiled resources in the form in which they are served.
    pub(super) fn pack(&self, json: &Json, compiled: Compiled) -> Layer {
        let packed = compile::packed(json, compiled);
        let mut interned = self.interned.lock();
        let mut layer = Layer::default();
        for (type_url, by_name) in packed {
            let resources = by_name.into_iter();
            let of_type = resources.map(|(name, resource)| (interned.name(&name), interned.resource(resource)));
            *layer.of_mut(type_url) = of_type.collect();
        }
        layer
    }

    /// Forgets what nobody uses.
    pub(super) fn sweep(&self, number: u64) {
        self.scopes.lock().retain(|_, slot| slot.used + UNUSED >= number);
        self.interned.lock().sweep();
    }
}

impl Interned {
    fn name(&mut self, name: &str) -> Name {
        if let Some(name) = self.names.get(name) {
            return name.clone();
        }
        let name: Name = name.into();
        self.names.insert(name.clone());
        name
    }

    fn resource(&mut self, new: compile::Resource) -> Resource {
        let known = self.resources.get(new.version.as_str()).and_then(Weak::upgrade);
        if let Some(known) = known
            && known.body == new.any
        {
            return Resource(known);
        }
        let resource = Resource::new(new.any, &new.version);
        self.resources
            .insert(resource.version.clone(), Arc::downgrade(&resource.0));
        resource
    }

    /// Costs time in proportion to what there is, so it waits until there is much more than the last time.
    fn sweep(&mut self) {
        let size = self.names.len() + self.resources.len();
        if size > self.swept * 2 + 1024 {
            self.resources.retain(|_, resource| resource.strong_count() > 0);
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.swept = self.names.len() + self.resources.len();
        }
    }
}
