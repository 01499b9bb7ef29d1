//! A worker: one thread, one current-thread runtime, its own connection pools.

use std::rc::Rc;
use std::sync::Arc;

use crate::shared::Shared;
use crate::snapshot::Snapshot;
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
}

impl Worker {
    /// A worker's state.
    pub fn new(id: usize, shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Worker {
            id,
            shared,
            pools: Pools::default(),
        })
    }

    /// The configuration in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }
}
