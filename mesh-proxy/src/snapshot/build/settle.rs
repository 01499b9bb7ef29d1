//! What of the objects is in force: those whose dependencies are there, or were waited for long enough.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::envoy::type_url;

use super::builder::{Builder, Entries, dns_options};
use super::entry::Entry;
use crate::shared::Shared;
use crate::snapshot::{Map, Snapshot};

impl Builder {
    /// Decides, and makes a snapshot when that or `changed` says that there is something new.
    pub(super) fn settle(&mut self, mut changed: bool) -> Option<Snapshot> {
        let now = Instant::now();
        if self.secrets.any_absent() {
            let wants = self.wants();
            self.secrets.keep_absent(|name| wants.secrets.contains(name));
        }
        let Builder {
            secrets,
            clusters,
            routes,
            listeners,
            assigned,
            resolved,
            patience,
            shared,
            ..
        } = self;
        for (name, entry) in clusters.iter_mut() {
            let endpoints = entry.deps.endpoints.as_ref().is_none_or(|e| assigned.contains(e));
            let addresses = dns_options(&entry.object).is_none() || resolved.contains_key(&**name);
            let complete = endpoints && addresses && entry.deps.secrets.iter().all(|s| secrets.settled(s));
            changed |= settle_one(shared, type_url::CLUSTER, name, entry, complete, now, *patience);
        }
        for (name, entry) in routes.iter_mut() {
            // A cluster that nobody announced is not waited for: requests for it get 503.
            let complete = entry
                .deps
                .clusters
                .iter()
                .all(|c| clusters.get(c.as_str()).is_none_or(|c| c.live.is_some()));
            changed |= settle_one(shared, type_url::ROUTE, name, entry, complete, now, *patience);
        }
        for (name, entry) in listeners.iter_mut() {
            let tables = entry
                .deps
                .routes
                .iter()
                .all(|r| routes.get(r.as_str()).is_some_and(|r| r.live.is_some()));
            let complete = tables && entry.deps.secrets.iter().all(|s| secrets.settled(s));
            changed |= settle_one(shared, type_url::LISTENER, name, entry, complete, now, *patience);
        }
        if !changed {
            return None;
        }
        self.secrets.shrink();
        self.version += 1;
        Some(self.snapshot())
    }

    fn snapshot(&self) -> Snapshot {
        let warming = self.clusters.values().filter(|e| e.warming()).count();
        let gauge = |name, n: usize| self.shared.stats.gauge(name).set(i64::try_from(n).unwrap_or(i64::MAX));
        gauge("cluster_manager.active_clusters", self.clusters.len() - warming);
        gauge("cluster_manager.warming_clusters", warming);
        gauge("listener_manager.total_listeners_active", self.listeners.len());
        Snapshot {
            version: self.version,
            listeners: live(&self.listeners),
            routes: live(&self.routes),
            clusters: live(&self.clusters),
            secrets: self.secrets.iter().map(|(n, s)| (n.into(), s.clone())).collect(),
        }
    }
}

fn live<T>(entries: &Entries<T>) -> Map<Arc<str>, Arc<T>> {
    entries
        .iter()
        .filter_map(|(name, entry)| Some((name.clone(), entry.live.clone()?)))
        .collect()
}

fn settle_one<T>(
    shared: &Shared,
    type_url: &str,
    name: &str,
    entry: &mut Entry<T>,
    complete: bool,
    now: Instant,
    patience: Duration,
) -> bool {
    let (warmed, gave_up) = (entry.warming(), entry.given_up());
    let changed = entry.settle(complete, now, patience);
    if entry.warming() != warmed {
        let warming = entry.warming();
        shared.resources.update(type_url, name, |r| r.warming = warming);
    }
    if entry.given_up() && !gave_up && !patience.is_zero() {
        let kind = type_url.rsplit('.').next().unwrap_or(type_url);
        tracing::warn!(kind, name, deps = ?entry.deps, "in force without all that it needs: it did not come in time");
    }
    changed
}
