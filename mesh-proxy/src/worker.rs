//! A worker: one thread, one current-thread runtime, its own connection pools.
//!
//! Tasks of a worker are spawned with [`tokio::task::spawn_local`] and share the [`Worker`] by `Rc`: on the request path
//! there is no lock and no atomic that another thread writes to. Connections are handed to workers by
//! [`Workers::least_loaded`], so that a few long-lived ones do not end up on one thread.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::{ArcSwap, Cache};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;

use crate::http::Downstreams;
use crate::listener::Connections;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::telemetry::WorkerTelemetry;
use crate::upstream::Pools;

/// What tasks of one worker share. Never leaves its thread.
#[derive(Debug)]
pub struct Worker {
    /// Number, from 0.
    pub id: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Connections to upstreams.
    pub pools: Pools,
    /// Telemetry that needs no lock.
    pub telemetry: WorkerTelemetry,
    /// Connections from callers.
    pub connections: Connections,
    /// Those of them that speak HTTP.
    pub http: Downstreams,
    snapshot: RefCell<Cache<SnapshotOf, Arc<Snapshot>>>,
}

/// Lets the cache keep the owner of the pointer alive.
#[derive(Debug)]
struct SnapshotOf(Arc<Shared>);

impl Deref for SnapshotOf {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &Self::Target {
        &self.0.snapshot
    }
}

impl Worker {
    /// A worker's state.
    pub fn new(id: usize, shared: Arc<Shared>) -> Rc<Self> {
        let telemetry = WorkerTelemetry::new(id, Arc::clone(&shared.stats), &shared.node);
        Rc::new(Worker {
            id,
            telemetry,
            pools: Pools::default(),
            connections: Connections::default(),
            http: Downstreams::default(),
            snapshot: RefCell::new(Cache::new(SnapshotOf(shared.clone()))),
            shared,
        })
    }

    /// The configuration in force. A request or connection loads it once; with an unchanged snapshot this is one
    /// comparison and one reference count.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow_mut().load().clone()
    }
}

/// Something to run on a worker's thread.
type Job = Box<dyn FnOnce(Rc<Worker>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A running worker, as other threads see it. The thread ends when the last handle is dropped; listeners keep one, so that
/// with them it lives as long as the process.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    id: usize,
    jobs: mpsc::UnboundedSender<Job>,
    load: Arc<AtomicUsize>,
}

impl WorkerHandle {
    /// Number, from 0.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Runs a task on the worker. `make` runs there, its future is a local task.
    pub fn spawn<F, Fut>(&self, make: F)
    where
        F: FnOnce(Rc<Worker>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        // The worker is gone only when the process ends; then nobody waits for the task.
        let _ = self.jobs.send(Box::new(move |worker| Box::pin(make(worker))));
    }

    /// Connections from callers that the worker has.
    pub fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// Counts a connection as this worker's until the guard is dropped.
    pub fn take(&self) -> LoadGuard {
        self.load.fetch_add(1, Relaxed);
        LoadGuard(self.load.clone())
    }
}

/// A connection's share in the load of its worker.
#[derive(Debug)]
pub struct LoadGuard(Arc<AtomicUsize>);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// All workers of the process.
#[derive(Debug, Clone)]
pub struct Workers(Arc<[WorkerHandle]>);

impl Workers {
    /// Starts `count` workers, at least one.
    ///
    /// # Errors
    /// When a thread or runtime cannot be made.
    pub fn start(count: usize, shared: &Arc<Shared>) -> io::Result<Self> {
        (0..count.max(1))
            .map(|id| start(id, shared.clone()))
            .collect::<io::Result<_>>()
            .map(Workers)
    }

    /// The worker with the fewest connections, the first of several.
    pub fn least_loaded(&self) -> &WorkerHandle {
        let mut best = &self.0[0];
        let mut fewest = usize::MAX;
        for worker in self.0.iter() {
            let load = worker.load();
            if load < fewest {
                (best, fewest) = (worker, load);
            }
        }
        best
    }
}

impl Deref for Workers {
    type Target = [WorkerHandle];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Starts one worker.
///
/// # Errors
/// When its thread or runtime cannot be made.
pub fn start(id: usize, shared: Arc<Shared>) -> io::Result<WorkerHandle> {
    let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
    let (made, runtime_made) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name(format!("worker-{id}"))
        .spawn(move || {
            // Tasks need not be `Send` here, and are scheduled without the detour of a `LocalSet`.
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = match builder.enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = made.send(error);
                    return;
                }
            };
            drop(made);
            runtime.block_on(async move {
                let worker = Worker::new(id, shared);
                while let Some(job) = queue.recv().await {
                    tokio::task::spawn_local(job(worker.clone()));
                }
            });
        })?;
    if let Ok(error) = runtime_made.recv() {
        return Err(error);
    }
    Ok(WorkerHandle {
        id,
        jobs,
        load: Arc::default(),
    })
}
