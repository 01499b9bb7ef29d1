//! Slow start: weights of new endpoints grow. Here is what has the tables made anew while they do.

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use tokio::time::Instant;

use crate::shared::Shared;
use crate::snapshot::{Cluster, Snapshot};

/// Between two steps of the weights.
const STEP: Duration = Duration::from_secs(1);

/// Runs on the control thread as long as the proxy.
pub async fn run(shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let warming = step(&shared.snapshot.load(), Instant::now());
        let gone = if warming {
            tokio::time::timeout(STEP, changed.changed())
                .await
                .is_ok_and(|c| c.is_err())
        } else {
            changed.changed().await.is_err()
        };
        if gone {
            return;
        }
    }
}

/// Makes a step where there are new endpoints; says whether there are.
fn step(snapshot: &Snapshot, now: Instant) -> bool {
    let warming = |cluster: &&Arc<Cluster>| {
        let Some(slow_start) = &cluster.rules.slow_start else {
            return false;
        };
        // One step more than the window takes, to full weight.
        let window = slow_start.window + 2 * STEP;
        cluster.endpoints.iter().any(|endpoint| {
            let since = endpoint.state.monitor.get().and_then(|m| m.since.get());
            since.is_some_and(|since| now.saturating_duration_since(*since) < window)
        })
    };
    let mut any = false;
    for cluster in snapshot.clusters.values().filter(warming) {
        cluster.state.health.fetch_add(1, Release);
        any = true;
    }
    any
}
