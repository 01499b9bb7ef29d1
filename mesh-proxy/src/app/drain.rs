//! Shutting down: inbound callers are told to go, everything is served on, until nothing is open or the time is over.

use std::time::{Duration, Instant};

use crate::shared::{Drain, Shared};
use crate::snapshot::Direction;

/// Between two looks at what is open.
const LOOK: Duration = Duration::from_millis(100);
/// Between "close what is left" and the end of the process, for last bytes to go out.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// How draining goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At least this long, although nothing is open: callers may not have heard yet that this endpoint is going.
    pub least: Duration,
    /// At most this long.
    pub most: Duration,
}

/// Drains, then closes what is left.
pub(super) async fn drain(shared: &Shared, limits: Limits) {
    let start = Instant::now();
    shared.drain.send_replace(Drain::Draining);
    tracing::info!(at_most = ?limits.most, "draining");
    loop {
        let passed = start.elapsed();
        if passed >= limits.most {
            break;
        }
        if passed >= limits.least && open(shared) == 0 {
            break;
        }
        tokio::time::sleep(LOOK.min(limits.most - passed)).await;
    }
    let left = open(shared);
    tracing::info!(after = ?start.elapsed(), connections = left, "closing");
    shared.drain.send_replace(Drain::Closing);
    if left > 0 {
        tokio::time::sleep(LAST_BYTES).await;
    }
}

fn open(shared: &Shared) -> i64 {
    [Direction::Inbound, Direction::Outbound, Direction::Unspecified]
        .into_iter()
        .map(|d| shared.listeners.active(d))
        .sum()
}
