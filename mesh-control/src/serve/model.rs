//! The objects in force: read, indexed, published, followed.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use arc_swap::ArcSwap;
use mesh_api::envoy::json::Json;
use mesh_api::istio::AnyObject;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::Options;
use super::ads::hub::{Generate, Hub};
use super::ads::resources::{Resource, Resources};
use crate::compile::{self, Proxy, Warning};
use crate::source::directory::{Directory, Watcher};
use crate::source::mesh::MeshSource;
use crate::source::{self, Diagnostic, Loaded, Reported, Severity};
use crate::store::{MeshConfig, Store};

/// One snapshot, ready to be compiled.
pub struct Snapshot {
    /// The objects.
    pub store: Store,
    /// What was read.
    pub loaded: Loaded,
    json: Arc<Json>,
    findings: BTreeSet<Diagnostic>,
    reported: Reported,
    /// What compiling found and was logged, over all snapshots.
    said: Arc<Mutex<BTreeSet<Warning>>>,
}

impl Snapshot {
    fn of(loaded: Loaded, mesh: Arc<MeshConfig>, json: Arc<Json>, said: Arc<Mutex<BTreeSet<Warning>>>) -> Arc<Self> {
        let store = Store::build(loaded.objects.iter().cloned(), mesh);
        let findings: BTreeSet<Diagnostic> = source::findings(&store, &loaded).into_iter().collect();
        Arc::new(Snapshot {
            store,
            loaded,
            json,
            reported: Reported::of(&findings),
            findings,
            said,
        })
    }

    /// What is wrong with the objects, by file and line.
    pub fn findings(&self) -> &BTreeSet<Diagnostic> {
        &self.findings
    }
}

impl Generate for Snapshot {
    fn generate(&self, proxy: &Proxy) -> Resources {
        let compiled = compile::compile(&self.store, proxy);
        for warning in &compiled.warnings {
            // Many proxies meet the same finding; it is said once.
            if !self.reported.covers(warning) && self.said.lock().insert(warning.clone()) {
                let place = &self.loaded.places;
                let line = place.diagnostic(&warning.object, &warning.field, &warning.message, Severity::Warning);
                warn!(proxy = %proxy.id, "{line}");
            }
        }
        pack(&self.json, &compiled)
    }
}

/// The compiled resources in the form in which they are served.
pub(crate) fn pack(json: &Json, compiled: &compile::Compiled) -> Resources {
    let mut resources = Resources::default();
    for (type_url, by_name) in compile::packed(json, compiled) {
        let of_type = resources.of_mut(type_url);
        for (name, resource) in by_name {
            of_type.insert(name, Resource::new(resource.any, &resource.version));
        }
    }
    resources
}

/// The present snapshot and the hub that it was published by.
#[derive(Clone)]
pub struct Model {
    present: Arc<ArcSwap<Snapshot>>,
    hub: Arc<Hub>,
    json: Arc<Json>,
    trust_domain: Arc<str>,
}

/// Follows the source.
pub(super) struct Follow {
    model: Model,
    directory: Directory,
    watcher: Watcher,
    mesh: MeshSource,
    said: Arc<Mutex<BTreeSet<Warning>>>,
    findings: BTreeSet<Diagnostic>,
}

impl Model {
    /// Reads the source for the first time.
    pub(super) fn open(options: &Options) -> Result<(Self, Follow)> {
        // Watching begins before reading: a change in between is seen.
        let beside: Vec<PathBuf> = options.mesh_config.iter().cloned().collect();
        let watcher = Watcher::new(&options.source, &beside);
        let mut directory = Directory::new(&options.source);
        let mut loaded = directory.load();
        let mut source = MeshSource::new(options.mesh_config.clone(), options.trust_domain.clone());
        let mesh = source.load(&mut loaded);
        if let Some(file) = &options.mesh_config
            && let Some(finding) = loaded
                .diagnostics
                .iter()
                .find(|f| f.file == *file && f.severity == Severity::Error)
        {
            // Later the last good settings stay; now there are none.
            anyhow::bail!("--mesh-config {finding}");
        }
        let json = Arc::new(Json::new());
        let said = Arc::new(Mutex::default());
        let snapshot = Snapshot::of(loaded, mesh, json.clone(), Arc::clone(&said));
        let model = Model {
            present: Arc::new(ArcSwap::new(snapshot.clone())),
            hub: Hub::new(snapshot.clone()),
            json,
            trust_domain: snapshot.store.mesh().trust_domain.as_str().into(),
        };
        let mut follow = Follow {
            model: model.clone(),
            directory,
            watcher,
            mesh: source,
            said,
            findings: BTreeSet::new(),
        };
        follow.report(&snapshot);
        info!(folder = %options.source.display(), objects = snapshot.store.objects().len(), "read");
        Ok((model, follow))
    }

    /// The snapshot in force.
    pub fn present(&self) -> Arc<Snapshot> {
        self.present.load_full()
    }

    /// Where snapshots are published.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Envoy's messages as JSON.
    pub fn json(&self) -> &Json {
        &self.json
    }

    /// Trust domain of all identities.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }
}

impl Follow {
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) -> Result<()> {
        loop {
            tokio::select! {
                () = self.watcher.changed() => {}
                _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            }
            // Reading and indexing many files takes long enough to be kept off the network threads.
            self = tokio::task::spawn_blocking(move || {
                self.reload();
                self
            })
            .await?;
        }
    }

    fn reload(&mut self) {
        let started = Instant::now();
        let before = self.model.present();
        let mut loaded = self.directory.load();
        let mesh = self.mesh.load(&mut loaded);
        let same = *mesh == *before.store.mesh()
            && before.loaded.objects.len() == loaded.objects.len()
            && before
                .loaded
                .objects
                .iter()
                .zip(&loaded.objects)
                .all(|(a, b)| Arc::ptr_eq(a, b) || a == b);
        // Lines move without any object changing, so the snapshot is new in any case; only proxies need not hear of it.
        // What was said of an object that has changed since may be said again.
        let known: HashSet<*const AnyObject> = before.loaded.objects.iter().map(Arc::as_ptr).collect();
        let unchanged: BTreeSet<String> = loaded
            .objects
            .iter()
            .filter(|o| known.contains(&Arc::as_ptr(o)))
            .map(|o| source::object_name(o.kind().as_str(), o.namespace(), o.name()))
            .collect();
        self.said.lock().retain(|w| unchanged.contains(&w.object));
        let snapshot = Snapshot::of(loaded, mesh, self.model.json.clone(), self.said.clone());
        if !same {
            let number = self.model.hub.publish(snapshot.clone());
            metrics::counter!("pilot_push_triggers", "type" => "config").increment(1);
            info!(
                snapshot = number,
                objects = snapshot.store.objects().len(),
                took_ms = started.elapsed().as_millis(),
                "changed"
            );
        }
        // After publishing: whoever sees these files here finds a snapshot of theirs, or a later one, at the hub.
        self.model.present.store(snapshot.clone());
        self.report(&snapshot);
    }

    /// Logs findings that are new, and those that are gone.
    fn report(&mut self, snapshot: &Snapshot) {
        let findings = snapshot.findings();
        for finding in findings.difference(&self.findings) {
            match finding.severity {
                Severity::Error => error!("{finding}"),
                Severity::Warning => warn!("{finding}"),
            }
        }
        for finding in self.findings.difference(findings) {
            info!("no longer: {finding}");
        }
        self.findings = findings.clone();
    }
}
