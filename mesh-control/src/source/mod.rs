//! Where objects come from.
//!
//! A source gives all objects that are in force, what is wrong with those that are not, and where each object stands, so
//! that later findings can name file and line too.

mod conflicts;
pub mod directory;
pub mod discovery;
pub mod injector;
pub mod kubernetes;
pub mod mesh;
mod references;
mod sidecars;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use mesh_api::istio::{AnyObject, Kind};
use mesh_api::names::ROOT_NAMESPACE;

use crate::compile;
use crate::inject::Settings;
use crate::store::Store;
use directory::{Directory, Lines, Watcher};
use kubernetes::Kubernetes;

/// What objects are read from, again and again.
#[derive(Debug)]
pub enum Reader {
    /// A folder of YAML.
    Directory(Directory, Watcher),
    /// A cluster's API server.
    Kubernetes(Kubernetes),
}

impl Reader {
    /// Everything as it is now. Reading a folder takes a while.
    pub fn load(&mut self) -> Loaded {
        match self {
            Reader::Directory(directory, _) => directory.load(),
            Reader::Kubernetes(cluster) => cluster.load(),
        }
    }

    /// Waits for a change. May be dropped and called again.
    pub async fn changed(&mut self) {
        match self {
            Reader::Directory(_, watcher) => watcher.changed().await,
            Reader::Kubernetes(cluster) => cluster.changed().await,
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Not as written, or not in force.
    Error,
    /// In force, though perhaps not as meant.
    Warning,
}

/// One finding, for one line of output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic {
    /// File.
    pub file: PathBuf,
    /// Line in it, from 1; 0 for the file as a whole.
    pub line: u32,
    /// `VirtualService shop/catalog`; empty when nobody can tell.
    pub object: String,
    /// `spec.http[0].route[0].weight`; empty for the whole object.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match (self.file.as_os_str().is_empty(), self.line) {
            (true, _) => String::new(),
            (false, 0) => self.file.display().to_string(),
            (false, line) => format!("{}:{line}", self.file.display()),
        };
        let parts = [place.as_str(), &self.object, &self.field, &self.message];
        for (index, part) in parts.into_iter().filter(|p| !p.is_empty()).enumerate() {
            if index > 0 {
                f.write_str(": ")?;
            }
            // One finding is one line, whatever a user's value holds.
            f.write_str(&part.replace('\n', " "))?;
        }
        Ok(())
    }
}

/// Where a control plane's own settings are among the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Its namespace.
    pub namespace: String,
    /// `istio.io/rev`, where several control planes stand side by side; empty for the only one.
    pub revision: String,
}

impl Default for Home {
    fn default() -> Self {
        Home {
            namespace: ROOT_NAMESPACE.to_owned(),
            revision: String::new(),
        }
    }
}

impl Home {
    /// `NAME`, or `NAME-REVISION`.
    #[must_use]
    pub fn named(&self, name: &str) -> String {
        if self.revision.is_empty() {
            name.to_owned()
        } else {
            format!("{name}-{}", self.revision)
        }
    }

    /// One of its own ConfigMaps.
    fn config_map<'a>(&self, loaded: &'a Loaded, name: &str) -> Option<&'a Arc<AnyObject>> {
        let name = self.named(name);
        loaded
            .objects
            .iter()
            .find(|o| o.kind() == Kind::ConfigMap && o.namespace() == self.namespace && o.name() == name)
    }
}

/// Everything that a source has.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Objects in force.
    pub objects: Vec<Arc<AnyObject>>,
    /// Findings, by file and line.
    pub diagnostics: Vec<Diagnostic>,
    /// Where the objects stand.
    pub places: Places,
    /// Files that were read, with the SHA-256 of what they held, in hexadecimal.
    pub files: BTreeMap<PathBuf, Arc<str>>,
    /// Settings of injection, where there are any.
    pub injector: Option<Arc<Settings>>,
    /// Changes of a cluster that are in here.
    pub changes: u64,
}

impl Loaded {
    /// Lays others over these: an object of the same kind and name takes the place of the one here.
    pub fn overlay(&mut self, over: Loaded) {
        let name = |o: &Arc<AnyObject>| object_name(o.kind().as_str(), o.namespace(), o.name());
        let names: HashSet<String> = over.objects.iter().map(name).collect();
        self.objects.retain(|o| !names.contains(&name(o)));
        self.objects.extend(over.objects);
        self.diagnostics.extend(over.diagnostics);
        self.diagnostics.sort();
        self.places.0.extend(over.places.0);
        self.files.extend(over.files);
    }
}

/// Where objects stand, by what [`object_name`] calls them.
#[derive(Debug, Clone, Default)]
pub struct Places(HashMap<String, (Arc<PathBuf>, Arc<Lines>)>);

impl Places {
    /// A finding about a field of an object that the source has given.
    pub fn diagnostic(&self, object: &str, field: &str, message: &str, severity: Severity) -> Diagnostic {
        let place = self.0.get(object);
        Diagnostic {
            file: place.map(|(file, _)| (**file).clone()).unwrap_or_default(),
            line: place.map_or(0, |(_, lines)| lines.line_of(field)),
            object: object.to_owned(),
            field: field.to_owned(),
            message: message.to_owned(),
            severity,
        }
    }

    pub(crate) fn insert(&mut self, object: String, file: Arc<PathBuf>, lines: Arc<Lines>) {
        self.0.insert(object, (file, lines));
    }
}

/// What an object is called in findings: `VirtualService shop/catalog`, `Namespace shop`.
pub fn object_name(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

/// All findings, by file and line: those of reading, of references that lead nowhere, of objects that speak for one thing, and
/// of what is not in force yet.
pub fn findings(store: &Store, loaded: &Loaded) -> Vec<Diagnostic> {
    findings_with(store, loaded, &between(store))
}

/// What objects say of each other: references that lead nowhere, objects that speak for one thing. It does not depend on Pods
/// and EndpointSlices.
pub fn between(store: &Store) -> Vec<(compile::Warning, Severity)> {
    let conflicts = conflicts::check(store).into_iter().chain(sidecars::check(store));
    let mut out = references::check(store);
    out.extend(conflicts.map(|warning| (warning, Severity::Warning)));
    out
}

/// As [`findings`], with those of [`between`] at hand.
pub fn findings_with(store: &Store, loaded: &Loaded, between: &[(compile::Warning, Severity)]) -> Vec<Diagnostic> {
    let mut out = loaded.diagnostics.clone();
    let unsupported = store.objects().iter().flat_map(|o| compile::unsupported(o));
    let unsupported = unsupported.map(|warning| (warning, Severity::Warning));
    for (warning, severity) in unsupported.chain(between.iter().cloned()) {
        out.push(
            loaded
                .places
                .diagnostic(&warning.object, &warning.field, &warning.message, severity),
        );
    }
    out.sort();
    out.dedup();
    out
}

/// Fields of findings by object, to ask whether the compile step finds the same again.
#[derive(Debug, Clone, Default)]
pub struct Reported(HashMap<String, Vec<String>>);

impl Reported {
    /// Of all findings.
    pub fn of<'a>(findings: impl IntoIterator<Item = &'a Diagnostic>) -> Self {
        let mut fields: HashMap<String, Vec<String>> = HashMap::new();
        for finding in findings {
            fields
                .entry(finding.object.clone())
                .or_default()
                .push(finding.field.clone());
        }
        Reported(fields)
    }

    /// Whether a finding of the compile step has been reported already, for the same field.
    pub fn covers(&self, warning: &compile::Warning) -> bool {
        let same = |field: &String| {
            *field == warning.field || (!warning.field.is_empty() && field.starts_with(&warning.field))
        };
        self.0
            .get(&warning.object)
            .is_some_and(|fields| fields.iter().any(same))
    }
}
