//! What one proxy should hold: what it shares with others of its scope, and its own.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use mesh_api::envoy::{Any, type_url};

/// Name of a resource; shared by everybody who knows the resource.
pub type Name = Arc<str>;

/// One resource, shared by all who hold it.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource(pub(crate) Arc<Content>);

/// What a resource is.
#[derive(Debug, PartialEq)]
pub struct Content {
    /// Hash of the canonical bytes: equal versions mean equal resources.
    pub version: Arc<str>,
    /// The resource.
    pub body: Any,
}

impl Resource {
    /// A resource with its version.
    pub fn new(body: Any, version: &str) -> Self {
        Resource(Arc::new(Content {
            version: version.into(),
            body,
        }))
    }

    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.version == other.version
    }
}

impl Deref for Resource {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.0
    }
}

/// Resources of one type by name.
pub type ByName = BTreeMap<Name, Resource>;

/// Resources by type URL. Cheap to clone; a clone that changes one type shares the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    types: BTreeMap<String, Arc<ByName>>,
}

static NONE: ByName = BTreeMap::new();

impl Layer {
    /// The resources of one type.
    pub fn of(&self, type_url: &str) -> &ByName {
        self.types.get(type_url).map_or(&NONE, |r| r)
    }

    /// To change them.
    pub fn of_mut(&mut self, type_url: &str) -> &mut ByName {
        Arc::make_mut(self.types.entry(type_url.to_owned()).or_default())
    }

    /// Names whose resource is not the same in both, added to `out`.
    fn differing(&self, other: &Self, type_url: &str, out: &mut Vec<Name>) {
        let shared = match (self.types.get(type_url), other.types.get(type_url)) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        if shared {
            return;
        }
        let (mut old, mut new) = (
            self.of(type_url).iter().peekable(),
            other.of(type_url).iter().peekable(),
        );
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) if Arc::ptr_eq(a, b) => Ordering::Equal,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let before = if order.is_le() { old.next() } else { None };
            let after = if order.is_ge() { new.next() } else { None };
            match (before, after) {
                (Some((_, a)), Some((_, b))) if a.same(b) => {}
                (Some((name, _)), _) | (None, Some((name, _))) => out.push(name.clone()),
                (None, None) => return,
            }
        }
    }
}

/// All resources of a proxy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Number of the snapshot that they were made from; 0 for none.
    pub origin: u64,
    /// What all proxies of its scope are sent.
    pub shared: Arc<Layer>,
    /// What it alone is sent; comes before what is shared.
    pub own: Layer,
}

impl Resources {
    /// The resources of one type.
    pub fn of(&self, type_url: &str) -> OfType<'_> {
        OfType {
            own: self.own.of(type_url),
            shared: self.shared.of(type_url),
        }
    }

    /// To fill what is its own.
    pub fn of_mut(&mut self, type_url: &str) -> &mut ByName {
        self.own.of_mut(type_url)
    }

    /// Every type that has resources.
    pub fn types(&self) -> impl Iterator<Item = (&str, OfType<'_>)> {
        let own = self.own.types.keys();
        let shared = self.shared.types.keys().filter(|t| !self.own.types.contains_key(*t));
        own.chain(shared).map(|t| (t.as_str(), self.of(t)))
    }

    /// Names of a type that may have changed between two states, in no order and perhaps twice.
    pub(crate) fn differing(&self, other: &Self, type_url: &str) -> Vec<Name> {
        let mut out = Vec::new();
        if !Arc::ptr_eq(&self.shared, &other.shared) {
            self.shared.differing(&other.shared, type_url, &mut out);
        }
        self.own.differing(&other.own, type_url, &mut out);
        out
    }
}

/// The resources of one type that one proxy should hold.
#[derive(Debug, Clone, Copy)]
pub struct OfType<'a> {
    own: &'a ByName,
    shared: &'a ByName,
}

impl<'a> OfType<'a> {
    /// One of them, with its name as all share it.
    pub fn entry(self, name: &str) -> Option<(&'a Name, &'a Resource)> {
        self.own.get_key_value(name).or_else(|| self.shared.get_key_value(name))
    }

    /// One of them.
    pub fn get(self, name: &str) -> Option<&'a Resource> {
        self.entry(name).map(|(_, resource)| resource)
    }

    /// Whether it is there.
    pub fn contains_key(self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = (&'a Name, &'a Resource)> {
        let shared = self.shared.iter().filter(move |(n, _)| !self.own.contains_key(*n));
        self.own.iter().chain(shared)
    }

    /// All names.
    pub fn keys(self) -> impl Iterator<Item = &'a Name> {
        self.iter().map(|(name, _)| name)
    }

    /// How many there are.
    pub fn len(self) -> usize {
        let both = self.own.keys().filter(|name| self.shared.contains_key(*name)).count();
        self.own.len() + self.shared.len() - both
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
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
