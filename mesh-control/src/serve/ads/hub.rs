//! Publishes snapshots, and has them compiled for proxies, on threads that may block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use mesh_api::names::SpiffeId;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::resources::Resources;
use crate::compile::Proxy;
use crate::serve::register::GROUP;

/// Turns one snapshot into a proxy's resources. A pure function of the proxy; it may take its time.
pub trait Generate: Send + Sync + 'static {
    /// All resources of `proxy`; `before` is what it should hold up to now, of which parts may be used again.
    fn generate(&self, proxy: &Proxy, before: Option<&Resources>) -> Resources;
}

/// One published snapshot.
pub struct Generation {
    /// Counts up from 1.
    pub number: u64,
    /// When it was published.
    pub at: Instant,
    generate: Arc<dyn Generate>,
    permits: Arc<Semaphore>,
}

impl Generation {
    /// The resources of a proxy.
    ///
    /// # Errors
    /// When the compile step panicked: a bug, which must not take other proxies with it.
    pub async fn resources(
        &self,
        proxy: &Arc<Proxy>,
        before: Option<Arc<Resources>>,
    ) -> Result<Arc<Resources>, String> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|e| e.to_string())?;
        let (generate, proxy) = (self.generate.clone(), proxy.clone());
        let started = Instant::now();
        let resources = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            generate.generate(&proxy, before.as_deref())
        })
        .await
        .map_err(|e| format!("the compile step failed: {e}"))?;
        metrics::histogram!("pilot_xds_push_time", "type" => "compile").record(started.elapsed());
        Ok(Arc::new(resources))
    }
}

/// What is known of one connected proxy, for tools.
#[derive(Debug)]
pub struct Connection {
    /// The proxy.
    pub proxy: Arc<Proxy>,
    /// Address of the other end.
    pub peer: String,
    /// Proven identity.
    pub identity: Option<SpiffeId>,
    /// `delta` or `state of the world`.
    pub form: &'static str,
    /// Since when.
    pub since: SystemTime,
    /// What changes.
    pub status: Mutex<Status>,
}

/// Where a connected proxy stands.
#[derive(Debug, Default)]
pub struct Status {
    /// Snapshot that it was sent last.
    pub sent: u64,
    /// Snapshot that it has taken wholly.
    pub settled: u64,
    /// By type URL: resources held, names refused, whether an answer is awaited.
    pub types: BTreeMap<String, (usize, Vec<String>, bool)>,
    /// By type URL: what the proxy said when it last refused something that is still refused.
    pub errors: BTreeMap<String, String>,
    /// What it should hold.
    pub resources: Arc<Resources>,
}

/// Where snapshots are published and proxies are known.
pub struct Hub {
    current: watch::Sender<Arc<Generation>>,
    permits: Arc<Semaphore>,
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// Changes when a proxy comes or goes that wants to be registered.
    registering: watch::Sender<()>,
    next_connection: AtomicU64,
}

impl Hub {
    /// A hub with its first snapshot.
    pub fn new(generate: Arc<dyn Generate>) -> Arc<Self> {
        // As many compiles at once as there are processors; the rest of the work is waiting.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let permits = Arc::new(Semaphore::new(processors));
        let first = Arc::new(generation(1, generate, &permits));
        Arc::new(Hub {
            current: watch::Sender::new(first),
            permits,
            connections: Mutex::default(),
            registering: watch::Sender::new(()),
            next_connection: AtomicU64::new(1),
        })
    }

    /// Makes a snapshot the present one. Proxies that are busy with an older one take the newest when they are done.
    pub fn publish(&self, generate: Arc<dyn Generate>) -> u64 {
        let number = self.current.borrow().number + 1;
        self.current
            .send_replace(Arc::new(generation(number, generate, &self.permits)));
        number
    }

    /// The present snapshot, and those to come.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Generation>> {
        self.current.subscribe()
    }

    /// Number of the present snapshot.
    pub fn number(&self) -> u64 {
        self.current.borrow().number
    }

    /// All connected proxies.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().values().cloned().collect()
    }

    /// Tells when a proxy has come or gone that wants to be registered.
    pub fn registering(&self) -> watch::Receiver<()> {
        self.registering.subscribe()
    }

    fn came_or_went(&self, proxy: &Proxy) {
        if proxy.meta(GROUP).is_some() {
            self.registering.send_replace(());
        }
    }

    /// Lists a connection for as long as the guard lives.
    pub(super) fn connected(self: &Arc<Self>, connection: Connection) -> Connected {
        let key = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(connection);
        self.connections.lock().insert(key, connection.clone());
        self.came_or_went(&connection.proxy);
        metrics::gauge!("pilot_xds", "version" => env!("CARGO_PKG_VERSION")).increment(1.0);
        Connected {
            hub: self.clone(),
            key,
            connection,
        }
    }
}

fn generation(number: u64, generate: Arc<dyn Generate>, permits: &Arc<Semaphore>) -> Generation {
    Generation {
        number,
        at: Instant::now(),
        generate,
        permits: permits.clone(),
    }
}

pub(super) struct Connected {
    hub: Arc<Hub>,
    key: u64,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.hub.connections.lock().remove(&self.key);
        self.hub.came_or_went(&self.connection.proxy);
        metrics::gauge!("pilot_xds", "version" => env!("CARGO_PKG_VERSION")).decrement(1.0);
    }
}
