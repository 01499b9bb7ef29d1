//! Connection pools of one worker.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::snapshot::{Cluster, Endpoint, EndpointState, Map};

/// Pools of one worker.
#[derive(Debug, Default)]
pub struct Pools {
    ephemeral: RefCell<Map<(usize, SocketAddr), Arc<Endpoint>>>,
}

impl Pools {
    /// The endpoint that stands for an original destination; the same one as long as it is in use.
    pub(super) fn original_dst_endpoint(&self, cluster: &Cluster, address: SocketAddr) -> Arc<Endpoint> {
        let key = (Arc::as_ptr(&cluster.transports) as usize, address);
        let mut all = self.ephemeral.borrow_mut();
        all.entry(key)
            .or_insert_with(|| {
                Arc::new(Endpoint {
                    address,
                    hostname: None,
                    weight: 1,
                    priority: 0,
                    locality: Arc::default(),
                    healthy: true,
                    transport: cluster.transports.default.clone(),
                    workload: None,
                    state: Arc::new(EndpointState::default()),
                })
            })
            .clone()
    }
}
