//! The objects in force: read, indexed, published, followed.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::Result;
use arc_swap::ArcSwap;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::type_url::NAME_TABLE;
use mesh_api::istio::AnyObject;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::Options;
use super::ads::hub::{Generate, Hub};
use super::ads::resources::{Layer, Resources};
use super::register::{Candidate, Registered};
use super::share::{History, Shares};
use super::webhook::injection::Facts;
use crate::compile::{self, Compiled, Proxy, Scope, Warning};
use crate::source::injector::InjectorSource;
use crate::source::mesh::MeshSource;
use crate::source::{self, Diagnostic, Home, Loaded, Reader, Reported, Severity, discovery};
use crate::store::change::Change;
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
    /// What objects say of each other.
    between: Arc<Vec<(Warning, Severity)>>,
    history: History,
    shares: Arc<Shares>,
    /// What compiling found and was logged, over all snapshots.
    said: Arc<Mutex<BTreeSet<Warning>>>,
    /// Made when the first Pod is to be injected.
    injection: OnceLock<Facts>,
}

impl Snapshot {
    pub(super) fn first(loaded: Loaded, mesh: Arc<MeshConfig>, json: Arc<Json>) -> Arc<Self> {
        let store = Store::build(loaded.objects.iter().cloned(), mesh);
        let between = Arc::new(source::between(&store));
        let (shares, said) = (Arc::default(), Arc::default());
        Self::of(store, loaded, between, History::start(), json, shares, said)
    }

    /// The snapshot after this one.
    pub(super) fn next(&self, loaded: Loaded, mesh: Arc<MeshConfig>) -> Arc<Self> {
        let (store, change) = self.store.next(loaded.objects.iter().cloned(), mesh);
        let between = match change {
            Change::Everything => Arc::new(source::between(&store)),
            Change::Endpoints(_) => self.between.clone(),
        };
        let history = self.history.then(change);
        self.shares.sweep(history.number);
        let (json, shares, said) = (self.json.clone(), self.shares.clone(), self.said.clone());
        Self::of(store, loaded, between, history, json, shares, said)
    }

    fn of(
        store: Store,
        loaded: Loaded,
        between: Arc<Vec<(Warning, Severity)>>,
        history: History,
        json: Arc<Json>,
        shares: Arc<Shares>,
        said: Arc<Mutex<BTreeSet<Warning>>>,
    ) -> Arc<Self> {
        let findings: BTreeSet<Diagnostic> = source::findings_with(&store, &loaded, &between).into_iter().collect();
        Arc::new(Snapshot {
            store,
            loaded,
            json,
            reported: Reported::of(&findings),
            findings,
            between,
            history,
            shares,
            said,
            injection: OnceLock::new(),
        })
    }

    /// What injection reads of the objects.
    pub(super) fn injection(&self) -> &Facts {
        self.injection.get_or_init(|| Facts::of(&self.store))
    }

    /// What is wrong with the objects, by file and line.
    pub fn findings(&self) -> &BTreeSet<Diagnostic> {
        &self.findings
    }

    /// Logs what compiling found. Many proxies meet the same finding; it is said once.
    fn warn(&self, compiled: &Compiled) {
        for warning in &compiled.warnings {
            if !self.reported.covers(warning) && self.said.lock().insert(warning.clone()) {
                let place = &self.loaded.places;
                let line = place.diagnostic(&warning.object, &warning.field, &warning.message, Severity::Warning);
                warn!("{line}");
            }
        }
    }

    fn compiled(&self, compiled: Compiled) -> Layer {
        self.warn(&compiled);
        self.shares.pack(&self.json, compiled)
    }

    /// What a sidecar alone holds, if it has not changed since.
    fn own_of<'a>(&self, before: &'a Resources, proxy: &Proxy) -> Option<&'a Layer> {
        let id = &proxy.id;
        let pod = self.store.pod(&id.namespace, &id.pod);
        let (ip, name) = (id.ip.to_string(), (id.namespace.clone(), id.pod.clone()));
        let mut addresses = pod.iter().flat_map(|p| &p.addresses).chain([&ip]);
        let changes = self.history.since(before.origin)?;
        let touched = |address: &String| changes.iter().any(|m| m.addresses.contains(address));
        let same = !changes.iter().any(|m| m.pods.contains(&name)) && !addresses.any(touched);
        same.then_some(&before.own)
    }
}

impl Generate for Snapshot {
    fn generate(&self, proxy: &Proxy, before: Option<&Resources>) -> Resources {
        let origin = self.history.number;
        let Some(scope) = Scope::of(&self.store, proxy) else {
            return Resources {
                origin,
                own: self.compiled(compile::compile(&self.store, proxy)),
                ..Resources::default()
            };
        };
        let warn = |compiled: &Compiled| self.warn(compiled);
        let shared = self.shares.layer(&self.store, &self.history, &scope, &self.json, &warn);
        let own = match before.and_then(|b| self.own_of(b, proxy)) {
            Some(own) => own.clone(),
            None => {
                let mut own = self.compiled(compile::own(&self.store, proxy));
                // The name table is shared.
                own.of_mut(NAME_TABLE).clear();
                own
            }
        };
        Resources { origin, shared, own }
    }
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
    reader: Reader,
    mesh: MeshSource,
    injector: InjectorSource,
    registering: watch::Receiver<()>,
    registered: Registered,
    findings: BTreeSet<Diagnostic>,
}

impl Model {
    /// Reads the source for the first time.
    pub(super) fn open(mut reader: Reader, options: &Options, home: &Home) -> Result<(Self, Follow)> {
        let mut loaded = reader.load();
        let mut source = MeshSource::new(options.mesh_config.clone(), options.trust_domain.clone())
            .at(home.clone())
            .excluding_unsafe_503(options.exclude_unsafe_503);
        let mesh = source.load(&mut loaded);
        let mut injector = InjectorSource::new(home.clone());
        injector.load(&mut loaded);
        discovery::filter(&mut loaded, &mesh);
        if let Some(file) = &options.mesh_config
            && let Some(finding) = loaded
                .diagnostics
                .iter()
                .find(|f| f.file == *file && f.severity == Severity::Error)
        {
            // Later the last good settings stay; now there are none.
            anyhow::bail!("--mesh-config {finding}");
        }
        let json = Arc::new(Json::shared().clone());
        let snapshot = Snapshot::first(loaded, mesh, json.clone());
        let model = Model {
            present: Arc::new(ArcSwap::new(snapshot.clone())),
            hub: Hub::new(snapshot.clone()),
            json,
            trust_domain: snapshot.store.mesh().trust_domain.as_str().into(),
        };
        let mut follow = Follow {
            model: model.clone(),
            reader,
            mesh: source,
            injector,
            registering: model.hub.registering(),
            registered: Registered::default(),
            findings: BTreeSet::new(),
        };
        follow.report(&snapshot);
        info!(source = %options.source, objects = snapshot.store.objects().len(), "read");
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
                () = self.reader.changed() => {}
                // The hub lives as long as the model here.
                _ = self.registering.changed() => {}
                () = until(self.registered.deadline()) => {}
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
        let mut loaded = self.reader.load();
        let mesh = self.mesh.load(&mut loaded);
        self.injector.load(&mut loaded);
        discovery::filter(&mut loaded, &mesh);
        let connections = self.model.hub.connections().into_iter();
        let proxies: Vec<Candidate> = connections.map(|c| (c.proxy.clone(), c.identity.clone())).collect();
        self.registered.apply(&proxies, &mut loaded.objects, started);
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
        let mut said = before.said.lock();
        if !said.is_empty() {
            let known: HashSet<*const AnyObject> = before.loaded.objects.iter().map(Arc::as_ptr).collect();
            let unchanged: BTreeSet<String> = loaded
                .objects
                .iter()
                .filter(|o| known.contains(&Arc::as_ptr(o)))
                .map(|o| source::object_name(o.kind().as_str(), o.namespace(), o.name()))
                .collect();
            said.retain(|w| unchanged.contains(&w.object));
        }
        drop(said);
        let snapshot = before.next(loaded, mesh);
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

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
