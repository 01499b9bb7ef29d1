//! What the threads of the proxy share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::dns::Caches;
use crate::listener::{Listeners, Proof};
use crate::snapshot::Snapshot;
use crate::snapshot::resources::Resources;
use crate::telemetry::stats::Registry;

/// Shared by the control thread and the workers. Everything the request path reads from here is an atomic load.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force. Workers cache the pointer ([`arc_swap::Cache`]); a request loads it once.
    pub snapshot: ArcSwap<Snapshot>,
    /// Version of the snapshot in force, for those who have to act on a change (listeners, open connections).
    pub changed: watch::Sender<u64>,
    /// Statistics.
    pub stats: Arc<Registry>,
    /// Who we are.
    pub node: Node,
    /// How far shutting down has come.
    pub drain: watch::Sender<Drain>,
    /// Listening sockets: readiness, addresses, open connections.
    pub listeners: Listeners,
    /// The connection by which a sidecar sees that its pod's traffic is captured.
    pub capture: Proof,
    /// The messages behind the snapshot, for dumps.
    pub resources: Resources,
    /// What has to be there before the proxy says that it is ready.
    pub readiness: Readiness,
    /// Addresses of hosts that requests name.
    pub dns_caches: Caches,
    /// When the process started.
    pub started: std::time::Instant,
}

impl Shared {
    /// Without configuration yet.
    pub fn new(node: Node) -> Arc<Self> {
        Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            changed: watch::Sender::new(0),
            stats: Arc::default(),
            node,
            drain: watch::Sender::new(Drain::Running),
            listeners: Listeners::default(),
            capture: Proof::default(),
            resources: Resources::default(),
            readiness: Readiness::default(),
            dns_caches: Caches::default(),
            started: std::time::Instant::now(),
        })
    }

    /// Puts a snapshot in force.
    pub fn publish(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        self.snapshot.store(Arc::new(snapshot));
        self.changed.send_replace(version);
    }
}

/// What has to be there before the proxy says that it is ready. A part that is not needed (no xDS, no identity) is set at
/// start; a part that was there once stays.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Clusters came (CDS, the bootstrap, or the last-good file).
    pub clusters: AtomicBool,
    /// Listeners came, and none of those that came first waits for anything.
    pub listeners: AtomicBool,
    /// Listeners came, warm or not.
    pub listeners_configured: AtomicBool,
    /// There is an identity.
    pub identity: AtomicBool,
    /// Workers listen.
    pub workers: AtomicBool,
    /// It is not proven yet that the pod's traffic is captured. Never set where nothing is.
    pub uncaptured: AtomicBool,
}

impl Readiness {
    /// What is still missing; empty when ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = [
            (&self.clusters, "clusters"),
            (&self.listeners, "listeners"),
            (&self.identity, "identity"),
            (&self.workers, "workers"),
        ];
        let missing = parts.into_iter().filter(|(there, _)| !there.load(Ordering::Relaxed));
        let capture = self
            .uncaptured
            .load(Ordering::Relaxed)
            .then_some("capture of the pod's traffic");
        missing.map(|(_, name)| name).chain(capture).collect()
    }
}

/// How far shutting down has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Not at all.
    Running,
    /// Callers are told to go (`connection: close`, GOAWAY) on inbound listeners; all traffic is still served, outbound
    /// stays as it was.
    Draining,
    /// Connections that are left are closed.
    Closing,
}

/// Who this proxy is, from the bootstrap's `node` (and in agent mode from the environment).
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// `sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local`, or whatever the bootstrap says.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// SPIFFE URI of our own certificate, as far as it is known from the environment.
    pub identity: Option<Arc<str>>,
    /// Istio's view of the workload; `None` when the bootstrap carries no Istio metadata, and then no Istio metrics are made.
    pub workload: Option<Workload>,
}

/// What Istio's metrics and peer metadata say of a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// `WORKLOAD_NAME`.
    pub name: String,
    /// `NAMESPACE`.
    pub namespace: String,
    /// Label `service.istio.io/canonical-name`, else `app.kubernetes.io/name`, `app`, the workload's name.
    pub canonical_name: String,
    /// Label `service.istio.io/canonical-revision`, else `app.kubernetes.io/version`, `version`, `latest`.
    pub canonical_revision: String,
    /// Label `app`.
    pub app: String,
    /// Label `version`.
    pub version: String,
    /// `CLUSTER_ID`.
    pub cluster_id: String,
    /// `OWNER`.
    pub owner: String,
    /// `LABELS`.
    pub labels: std::collections::BTreeMap<String, String>,
}
