//! The configuration of a running proxy: the builder behind a lock, and who is told when it changes. Everything here runs
//! on the control thread; the data path only ever sees the snapshot that is put in force.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mesh_api::envoy::type_url;
use mesh_api::nds::NameTable;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::build::{Builder, Rejection, Update, Wants};
use super::resources::Source;
use super::{DnsOptions, Secret, Snapshot};
use crate::shared::Shared;

/// Between two looks at files behind secrets.
const REREAD_EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Config {
    /// What all threads share.
    pub shared: Arc<Shared>,
    builder: Mutex<Builder>,
    wants: watch::Sender<Wants>,
    dns: watch::Sender<Vec<(String, DnsOptions)>>,
    names: watch::Sender<Arc<NameTable>>,
    changed: Notify,
}

impl Config {
    /// Takes a builder that may hold static resources already.
    pub fn new(shared: Arc<Shared>, builder: Builder) -> Arc<Self> {
        Arc::new(Config {
            shared,
            wants: watch::Sender::new(builder.wants()),
            dns: watch::Sender::new(builder.dns_clusters()),
            builder: Mutex::new(builder),
            names: watch::Sender::new(Arc::default()),
            changed: Notify::new(),
        })
    }

    /// Takes an update and puts what comes of it in force. Gives what was refused.
    pub fn apply(&self, update: Update, source: Source) -> Vec<Rejection> {
        if source != Source::Static {
            let readiness = &self.shared.readiness;
            match update.type_url.as_str() {
                type_url::CLUSTER => readiness.clusters.store(true, Relaxed),
                type_url::LISTENER => readiness.listeners_configured.store(true, Relaxed),
                _ => {}
            }
        }
        let mut builder = self.builder.lock();
        let applied = builder.apply(update, source);
        self.follow(&builder, applied.snapshot);
        self.changed.notify_one();
        applied.rejected
    }

    /// Puts a secret of our own in place (identity, roots).
    pub fn set_secret(&self, name: &str, secret: Secret) {
        let mut builder = self.builder.lock();
        let snapshot = builder.set_secret(name, secret);
        self.follow(&builder, snapshot);
    }

    /// Whether there is this secret.
    pub fn has_secret(&self, name: &str) -> bool {
        self.builder.lock().has_secret(name)
    }

    /// Addresses of the targets of a DNS cluster.
    pub fn set_dns(&self, cluster: &str, addresses: Vec<Vec<IpAddr>>) {
        let mut builder = self.builder.lock();
        let snapshot = builder.set_dns(cluster, addresses);
        self.follow(&builder, snapshot);
    }

    /// What the control plane is to be asked for, as it changes.
    pub fn wants(&self) -> watch::Receiver<Wants> {
        self.wants.subscribe()
    }

    /// DNS clusters, as they change.
    pub fn dns(&self) -> watch::Receiver<Vec<(String, DnsOptions)>> {
        self.dns.subscribe()
    }

    /// The names that the DNS proxy answers, as they change.
    pub fn names(&self) -> watch::Receiver<Arc<NameTable>> {
        self.names.subscribe()
    }

    /// A new table of names.
    pub fn set_names(&self, table: NameTable) {
        self.names.send_replace(Arc::new(table));
    }

    fn follow(&self, builder: &Builder, snapshot: Option<Snapshot>) {
        if let Some(snapshot) = snapshot {
            self.shared.publish(snapshot);
        }
        let readiness = &self.shared.readiness;
        if readiness.listeners_configured.load(Relaxed) && !builder.listeners_warming() {
            readiness.listeners.store(true, Relaxed);
        }
        let wants = builder.wants();
        self.wants.send_if_modified(|w| replace(w, wants));
        let dns = builder.dns_clusters();
        self.dns.send_if_modified(|d| replace(d, dns));
    }

    /// Ends waits, follows files. Runs as long as the proxy.
    pub async fn run(&self) {
        let mut reread = Instant::now();
        loop {
            let next = {
                let mut builder = self.builder.lock();
                let mut snapshot = builder.tick();
                if reread.elapsed() >= REREAD_EVERY {
                    reread = Instant::now();
                    snapshot = builder.reread_files().or(snapshot);
                }
                self.follow(&builder, snapshot);
                let next = reread + REREAD_EVERY;
                builder.deadline().map_or(next, |d| d.min(next))
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }
}

fn replace<T: PartialEq>(slot: &mut T, value: T) -> bool {
    let changed = *slot != value;
    *slot = value;
    changed
}
