//! The API server as the source of objects.
//!
//! Each kind has a watch of its own ([`watch`]), which fills one cache ([`cache`]). An object that is wrong gives findings and
//! stops nothing else; what it said before stays in force. A kind that is not served yet is looked for until it is.

mod adapt;
mod cache;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::ApiResource;
use kube::{Client, Config};
use mesh_api::istio::Kind;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use super::Loaded;
use cache::Cache;
pub use cache::Status;

/// Events that come within this time of the first are taken together…
const QUIET: Duration = Duration::from_millis(10);
/// …and at the latest after this.
const MOST: Duration = Duration::from_millis(100);
/// Whoever cannot list a kind for so long serves without it until it can.
const FIRST_LIST: Duration = Duration::from_secs(30);

/// Kinds that the mesh reads of the whole cluster.
const EVERYWHERE: [Kind; 19] = [
    Kind::Namespace,
    Kind::Node,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
    Kind::Secret,
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::Gateway,
    Kind::ServiceEntry,
    Kind::Sidecar,
    Kind::WorkloadEntry,
    Kind::WorkloadGroup,
    Kind::EnvoyFilter,
    Kind::ProxyConfig,
    Kind::PeerAuthentication,
    Kind::RequestAuthentication,
    Kind::AuthorizationPolicy,
    Kind::Telemetry,
];

/// Objects of a cluster, as they are now.
#[derive(Debug)]
pub struct Kubernetes {
    cache: Arc<Mutex<Cache>>,
    changed: Arc<Notify>,
    /// Watches end with this.
    _watches: JoinSet<()>,
}

/// The API server that the environment names: the cluster of this Pod, or `KUBECONFIG`.
///
/// # Errors
/// When there is neither.
pub async fn client() -> Result<Client> {
    let config = Config::infer().await.context(
        "there is no cluster: neither is this a Pod with a service account, nor does KUBECONFIG (or ~/.kube/config) name one",
    )?;
    let url = config.cluster_url.clone();
    Client::try_from(config).with_context(|| format!("the API server at {url}"))
}

impl Kubernetes {
    /// Watches everything that the mesh reads; comes back when each kind was listed once. Of ConfigMaps only these of our own
    /// namespace are read.
    ///
    /// # Errors
    /// When the API server cannot be asked at all.
    pub async fn open(client: &Client, namespace: &str, config_maps: &[String]) -> Result<Self> {
        let version = client
            .apiserver_version()
            .await
            .context("the API server does not answer")?;
        info!(version = version.git_version, "the API server answers");
        let cache = Arc::new(Mutex::new(Cache::default()));
        let changed = Arc::new(Notify::new());
        let mut watches = JoinSet::new();
        let mut listed = Vec::new();
        let everywhere = EVERYWHERE.into_iter().map(watch::Scope::everywhere);
        let settings = config_maps.iter();
        let settings = settings.map(|name| watch::Scope::one(Kind::ConfigMap, namespace, name));
        for (number, scope) in everywhere.chain(settings).enumerate() {
            let watch = watch::Watch::new(number, client.clone(), scope, cache.clone(), changed.clone());
            listed.push(watch.listed());
            watches.spawn(watch.run());
        }
        let all = async {
            for mut one in listed {
                // The sender lives as long as the watch.
                let _ = one.wait_for(|done| *done).await;
            }
        };
        if timeout(FIRST_LIST, all).await.is_err() {
            warn!("not every kind could be listed within {FIRST_LIST:?}; serving without those until they can be");
        }
        Ok(Kubernetes {
            cache,
            changed,
            _watches: watches,
        })
    }

    /// Everything as it is now.
    pub fn load(&self) -> Loaded {
        self.cache.lock().loaded()
    }

    /// What the API server keeps beside the objects.
    pub fn statuses(&self) -> Statuses {
        Statuses(self.cache.clone())
    }

    /// Waits for a change. May be dropped and called again.
    pub async fn changed(&self) {
        self.changed.notified().await;
        let latest = Instant::now() + MOST;
        while timeout_at(latest.min(Instant::now() + QUIET), self.changed.notified())
            .await
            .is_ok()
        {}
    }
}

/// Statuses of objects of Istio's kinds, as they are now.
#[derive(Debug, Clone)]
pub struct Statuses(Arc<Mutex<Cache>>);

impl Statuses {
    /// Shows each object that is in a snapshot of so many changes ([`Loaded::changes`]) as it is now: what findings call it,
    /// its kind, its status.
    pub fn each(&self, changes: u64, mut show: impl FnMut(&str, &ApiResource, &Status)) {
        for (name, resource, status) in self.0.lock().statuses(changes) {
            show(name, resource, status);
        }
    }

    /// Another number whenever an object or its status is another.
    pub fn number(&self) -> u64 {
        self.0.lock().touches()
    }
}
