//! The builder: updates in, snapshots out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_api::envoy::pb::envoy::config::cluster::v3 as cluster_pb;
use mesh_api::envoy::pb::envoy::config::endpoint::v3 as endpoint_pb;
use mesh_api::envoy::pb::envoy::config::listener::v3 as listener_pb;
use mesh_api::envoy::pb::envoy::config::route::v3 as route_pb;
use mesh_api::envoy::pb::envoy::extensions::transport_sockets::tls::v3 as tls_pb;
use mesh_api::envoy::type_url;
use prost::Message;

use super::cluster::{Parts, cluster};
use super::context::{Context, Deps};
use super::endpoint::{EndpointSpec, Host, assignment};
use super::entry::Entry;
use super::invalid::{Invalid, Result};
use super::listener::listener;
use super::route::{route_table, split_hosts};
use super::secret::{Secrets, secret};
use super::strict::check;
use super::update::{Applied, Incoming, Rejection, Update, Wants};
use crate::shared::Shared;
use crate::snapshot::resources::{Rejected, Resource, Source};
use crate::snapshot::{Cluster, Discovery, DnsOptions, Listener, RouteAction, RouteTable, Secret, Snapshot, Target};
use crate::telemetry::stats::ClusterStats;

/// How long an object waits for what it depends on before it is put in force without. Envoy's default for one fetch.
const PATIENCE: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
pub struct Builder {
    pub(super) shared: Arc<Shared>,
    pub(super) secrets: Secrets,
    pub(super) clusters: Entries<Cluster>,
    pub(super) routes: Entries<RouteTable>,
    pub(super) listeners: Entries<Listener>,
    /// Names of endpoints that came by EDS; what they are is read from the message when a cluster is made.
    pub(super) assigned: BTreeSet<String>,
    pub(super) resolved: BTreeMap<String, Vec<Vec<IpAddr>>>,
    pub(super) version: u64,
    pub(super) patience: Duration,
}

/// By name; snapshots share the names.
pub(super) type Entries<T> = BTreeMap<Arc<str>, Entry<T>>;

/// What changed, for those that depend on it.
#[derive(Debug, Default)]
struct Changes {
    secrets: BTreeSet<String>,
    endpoints: BTreeSet<String>,
    any: bool,
}

impl Builder {
    /// Without configuration yet. Messages are kept in [`Shared::resources`].
    pub fn new(shared: Arc<Shared>) -> Self {
        Builder {
            shared,
            secrets: Secrets::default(),
            clusters: BTreeMap::new(),
            routes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            assigned: BTreeSet::new(),
            resolved: BTreeMap::new(),
            version: 0,
            patience: PATIENCE,
        }
    }

    /// Another limit for waiting; zero for none, as `--mode validate` has it.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What all threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes an update. It is consumed message by message, so that what is made of one takes the place of its bytes.
    pub fn apply(&mut self, update: Update, source: Source) -> Applied {
        let mut changes = Changes::default();
        let mut rejected = Vec::new();
        let mut gone = update.remove;
        if update.complete {
            let kept: BTreeSet<&str> = update.set.iter().map(|i| i.name.as_str()).collect();
            let known = self.shared.resources.names(&update.type_url);
            gone.extend(known.into_iter().filter(|name| !kept.contains(name.as_str())));
        }
        for incoming in update.set {
            if let Err(reasons) = self.accept(&update.type_url, &incoming, source, &mut changes) {
                self.note_rejection(&update.type_url, &incoming, source, &reasons);
                rejected.extend(reasons.into_iter().map(|reason| Rejection {
                    type_url: update.type_url.clone(),
                    name: incoming.name.clone(),
                    path: reason.path,
                    message: reason.message,
                }));
            }
        }
        for name in gone {
            self.remove(&update.type_url, &name, &mut changes);
        }
        self.rebuild(&changes);
        Applied {
            snapshot: self.settle(changes.any),
            rejected,
        }
    }

    /// Puts a secret in place that does not come by SDS: the workload's own identity and its roots.
    pub fn set_secret(&mut self, name: &str, secret: Secret) -> Option<Snapshot> {
        let mut changes = Changes::default();
        if self.secrets.set(name, secret) {
            changes.secrets.insert(name.to_owned());
            changes.any = true;
        }
        self.rebuild(&changes);
        self.settle(changes.any)
    }

    /// The addresses of each target of a DNS cluster, in the order of [`DnsOptions::targets`].
    pub fn set_dns(&mut self, cluster: &str, addresses: Vec<Vec<IpAddr>>) -> Option<Snapshot> {
        if self.resolved.get(cluster) == Some(&addresses) || !self.clusters.contains_key(cluster) {
            return None;
        }
        self.resolved.insert(cluster.to_owned(), addresses);
        self.rebuild_cluster(cluster);
        self.settle(false)
    }

    /// Reads the files behind `file-cert:` and `file-root:` secrets again.
    pub fn reread_files(&mut self) -> Option<Snapshot> {
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        names.extend(self.clusters.values().flat_map(|e| e.deps.secrets.iter().cloned()));
        names.extend(self.listeners.values().flat_map(|e| e.deps.secrets.iter().cloned()));
        let changed = self.secrets.reread(names.iter().map(|name| &**name));
        let changes = Changes {
            any: !changed.is_empty(),
            secrets: changed.into_iter().collect(),
            ..Changes::default()
        };
        self.rebuild(&changes);
        self.settle(changes.any)
    }

    /// Ends waits whose time is over. To be called at [`Builder::deadline`].
    pub fn tick(&mut self) -> Option<Snapshot> {
        self.settle(false)
    }

    /// When a wait ends.
    pub fn deadline(&self) -> Option<Instant> {
        let clusters = self.clusters.values().filter_map(|e| e.deadline(self.patience));
        let routes = self.routes.values().filter_map(|e| e.deadline(self.patience));
        let listeners = self.listeners.values().filter_map(|e| e.deadline(self.patience));
        clusters.chain(routes).chain(listeners).min()
    }

    /// Whether listeners wait for something.
    pub fn listeners_warming(&self) -> bool {
        self.listeners.values().any(Entry::warming)
    }

    /// Whether there is this secret.
    pub fn has_secret(&self, name: &str) -> bool {
        self.secrets.has(name)
    }

    /// DNS clusters and what has to be looked up for them.
    pub fn dns_clusters(&self) -> Vec<(String, DnsOptions)> {
        self.clusters
            .iter()
            .filter_map(|(name, entry)| dns_options(&entry.object).map(|o| (name.to_string(), o.clone())))
            .collect()
    }

    /// What the control plane is to be asked for.
    pub fn wants(&self) -> Wants {
        let mut out = Wants::default();
        for entry in self.clusters.values() {
            out.endpoints.extend(entry.deps.endpoints.clone());
            out.secrets
                .extend(entry.deps.ads_secrets.iter().map(ToString::to_string));
        }
        for entry in self.listeners.values() {
            out.routes.extend(entry.deps.routes.iter().cloned());
            out.secrets
                .extend(entry.deps.ads_secrets.iter().map(ToString::to_string));
        }
        out
    }

    // === accepting ===

    fn accept(
        &mut self,
        type_url: &str,
        incoming: &Incoming,
        source: Source,
        changes: &mut Changes,
    ) -> std::result::Result<(), Vec<Invalid>> {
        let before = self.shared.resources.get(type_url, &incoming.name);
        if source != Source::Static && before.as_ref().is_some_and(|b| b.source == Source::Static) {
            let reason = "the bootstrap has a static resource of this name, which stays";
            return Err(vec![Invalid::new(reason)]);
        }
        let same = before
            .as_ref()
            .and_then(|b| b.bytes.as_deref())
            .is_some_and(|b| b == incoming.bytes.as_slice());
        if same {
            self.shared.resources.update(type_url, &incoming.name, |r| {
                r.version.clone_from(&incoming.version);
                r.source = source;
                r.rejected = None;
            });
            return Ok(());
        }
        // Endpoints are checked by their conversion: they change often.
        if type_url != type_url::ENDPOINT {
            let refused = check(type_url.rsplit('/').next().unwrap_or(type_url), &incoming.bytes);
            if !refused.is_empty() {
                return Err(refused);
            }
        }
        let bytes: Arc<[u8]> = incoming.bytes.as_slice().into();
        self.convert(type_url, &incoming.name, &bytes, changes)
            .map_err(|e| vec![e])?;
        let resource = Resource {
            bytes: Some(bytes),
            version: incoming.version.clone(),
            source,
            updated: SystemTime::now(),
            rejected: None,
            warming: false,
        };
        self.shared.resources.set(type_url, &incoming.name, resource);
        Ok(())
    }

    fn convert(&mut self, type_url: &str, name: &str, bytes: &Arc<[u8]>, changes: &mut Changes) -> Result<()> {
        match type_url {
            type_url::CLUSTER => {
                let message: cluster_pb::Cluster = decode(bytes)?;
                named(name, &message.name)?;
                let (object, deps) = self.make_cluster(&message)?;
                put(&mut self.clusters, name, bytes, object, deps);
            }
            type_url::ENDPOINT => {
                let message: endpoint_pb::ClusterLoadAssignment = decode(bytes)?;
                named(name, &message.cluster_name)?;
                let specs = assignment(&message)?;
                if let Some(Host::Name(host)) = specs.iter().map(|s| &s.host).find(|h| matches!(h, Host::Name(_))) {
                    return Err(Invalid::new(format!("{host:?} is no IP address")).under("endpoints"));
                }
                self.assigned.insert(name.to_owned());
                changes.endpoints.insert(name.to_owned());
            }
            type_url::ROUTE => {
                let (outline, hosts) = split_hosts(bytes)?;
                named(name, &outline.name)?;
                let hosts = hosts.into_iter().map(decode::<route_pb::VirtualHost>);
                let table = route_table(&outline, hosts)?;
                let deps = Deps {
                    clusters: clusters_of(&table),
                    ..Deps::default()
                };
                put(&mut self.routes, name, bytes, table, deps);
            }
            type_url::LISTENER => {
                let message: listener_pb::Listener = decode(bytes)?;
                let (object, deps) = self.make_listener(&message)?;
                named(name, &object.name)?;
                put(&mut self.listeners, name, bytes, object, deps);
            }
            type_url::SECRET => {
                let message: tls_pb::Secret = decode(bytes)?;
                named(name, &message.name)?;
                if self.secrets.set(name, secret(&message)?) {
                    changes.secrets.insert(name.to_owned());
                    changes.any = true;
                }
            }
            other => return Err(Invalid::new(format!("resources of type {other} are not implemented"))),
        }
        Ok(())
    }

    fn make_cluster(&mut self, message: &cluster_pb::Cluster) -> Result<(Cluster, Deps)> {
        let old = self.clusters.get(message.name.as_str()).map(|e| e.object.clone());
        let eds_name = message.eds_cluster_config.as_ref().map(|c| c.service_name.as_str());
        let eds_name = eds_name.filter(|n| !n.is_empty()).unwrap_or(&message.name);
        let shared = self.shared.clone();
        let stats = shared.stats.clone();
        let assigned = self.endpoints(eds_name);
        let mut context = Context::new(&mut self.secrets);
        let parts = Parts {
            assigned: assigned.as_deref(),
            resolved: self.resolved.get(&message.name).map(Vec::as_slice).unwrap_or_default(),
            old: old.as_deref(),
            stats: &|name| ClusterStats::new(&stats, name),
            caches: &|name, settings| shared.dns_caches.get(name, settings, &stats),
        };
        let made = cluster(message, &parts, &mut context)?;
        let deps = context.deps;
        // Other targets: what was found for the old ones does not fit.
        let targets = |c: &Cluster| dns_options(c).map(|o| o.targets.clone());
        if old.as_deref().and_then(targets) != targets(&made) && self.resolved.remove(&message.name).is_some() {
            return self.make_cluster(message);
        }
        Ok((made, deps))
    }

    /// The endpoints that EDS gave last.
    fn endpoints(&self, name: &str) -> Option<Vec<EndpointSpec>> {
        if !self.assigned.contains(name) {
            return None;
        }
        let bytes = self.shared.resources.bytes(type_url::ENDPOINT, name)?;
        // It was accepted, so it can be read.
        assignment(&decode(&bytes).ok()?).ok()
    }

    fn make_listener(&mut self, message: &listener_pb::Listener) -> Result<(Listener, Deps)> {
        let mut context = Context::new(&mut self.secrets);
        let made = listener(message, &mut context)?;
        Ok((made, context.deps))
    }

    fn note_rejection(&mut self, type_url: &str, incoming: &Incoming, source: Source, reasons: &[Invalid]) {
        let message = reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let rejected = Some(Rejected {
            bytes: incoming.bytes.as_slice().into(),
            version: incoming.version.clone(),
            message,
            at: SystemTime::now(),
        });
        let resources = &self.shared.resources;
        if resources.get(type_url, &incoming.name).is_some() {
            resources.update(type_url, &incoming.name, |r| r.rejected = rejected);
            return;
        }
        let resource = Resource {
            bytes: None,
            version: String::new(),
            source,
            updated: SystemTime::now(),
            rejected,
            warming: false,
        };
        resources.set(type_url, &incoming.name, resource);
    }

    // === removing and following ===

    fn remove(&mut self, type_url: &str, name: &str, changes: &mut Changes) {
        let is_static = self
            .shared
            .resources
            .get(type_url, name)
            .is_some_and(|r| r.source == Source::Static);
        if is_static {
            return;
        }
        self.shared.resources.remove(type_url, name);
        changes.any |= match type_url {
            type_url::CLUSTER => {
                self.resolved.remove(name);
                self.clusters.remove(name).is_some()
            }
            type_url::ENDPOINT => {
                let gone = self.assigned.remove(name);
                if gone {
                    changes.endpoints.insert(name.to_owned());
                }
                false
            }
            type_url::ROUTE => self.routes.remove(name).is_some(),
            type_url::LISTENER => self.listeners.remove(name).is_some(),
            type_url::SECRET => {
                let gone = self.secrets.remove(name);
                if gone {
                    changes.secrets.insert(name.to_owned());
                }
                gone
            }
            _ => false,
        };
    }

    /// Makes everything anew that depends on what changed.
    fn rebuild(&mut self, changes: &Changes) {
        if changes.secrets.is_empty() && changes.endpoints.is_empty() {
            return;
        }
        let touched = |deps: &Deps| {
            deps.endpoints.as_ref().is_some_and(|e| changes.endpoints.contains(e))
                || deps.secrets.iter().any(|s| changes.secrets.contains(&**s))
        };
        let clusters = names_where(&self.clusters, touched);
        let listeners = names_where(&self.listeners, touched);
        for name in clusters {
            self.rebuild_cluster(&name);
        }
        for name in listeners {
            self.rebuild_listener(&name);
        }
    }

    fn rebuild_cluster(&mut self, name: &str) {
        let Some(bytes) = self.clusters.get(name).map(|e| e.bytes.clone()) else {
            return;
        };
        let made = decode(&bytes).and_then(|message| self.make_cluster(&message));
        match (made, self.clusters.get_mut(name)) {
            (Ok((object, deps)), Some(entry)) => entry.replace(bytes, object, deps),
            (Err(e), _) => tracing::warn!(cluster = name, "stays as it was: {e}"),
            (Ok(_), None) => {}
        }
    }

    fn rebuild_listener(&mut self, name: &str) {
        let Some(bytes) = self.listeners.get(name).map(|e| e.bytes.clone()) else {
            return;
        };
        let made = decode(&bytes).and_then(|message| self.make_listener(&message));
        match (made, self.listeners.get_mut(name)) {
            (Ok((object, deps)), Some(entry)) => entry.replace(bytes, object, deps),
            (Err(e), _) => tracing::warn!(listener = name, "stays as it was: {e}"),
            (Ok(_), None) => {}
        }
    }
}

fn put<T>(entries: &mut Entries<T>, name: &str, bytes: &Arc<[u8]>, object: T, deps: Deps) {
    match entries.get_mut(name) {
        Some(entry) => entry.replace(bytes.clone(), object, deps),
        None => {
            entries.insert(name.into(), Entry::new(bytes.clone(), object, deps));
        }
    }
}

fn names_where<T>(entries: &Entries<T>, touched: impl Fn(&Deps) -> bool) -> Vec<Arc<str>> {
    entries
        .iter()
        .filter(|(_, entry)| touched(&entry.deps))
        .map(|(name, _)| name.clone())
        .collect()
}

pub(super) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|e| Invalid::new(format!("malformed message: {e}")))
}

fn named(expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Invalid::new(format!("the message is named {found:?}")).under("name"))
}

/// What a DNS cluster has to look up.
pub(super) fn dns_options(cluster: &Cluster) -> Option<&DnsOptions> {
    match &cluster.discovery {
        Discovery::StrictDns(options) | Discovery::LogicalDns(options) => Some(options),
        _ => None,
    }
}

/// All clusters that a table names.
fn clusters_of(table: &RouteTable) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for route in table.virtual_hosts.iter().flat_map(|h| &h.routes) {
        let RouteAction::Forward(forward) = &route.action else {
            continue;
        };
        match &forward.target {
            Target::Cluster(name) => {
                out.insert(name.to_string());
            }
            Target::Weighted { clusters, .. } => out.extend(clusters.iter().map(|c| c.name.to_string())),
            Target::Header(_) => {}
        }
        out.extend(forward.mirrors.iter().map(|m| m.cluster.to_string()));
    }
    out
}
