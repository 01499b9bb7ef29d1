//! Upstreams: load balancing, connecting, connection pools.

use std::rc::Rc;
use std::sync::Arc;

use crate::snapshot::{Cluster, Endpoint};
use crate::worker::Worker;

/// Pools of one worker.
#[derive(Debug, Default)]
pub struct Pools {}

/// Chooses an endpoint, `None` when there is no healthy one.
pub fn pick(cluster: &Cluster, worker: &Rc<Worker>) -> Option<Arc<Endpoint>> {
    let _ = worker;
    cluster.endpoints.first().cloned()
}
