//! Shutting down: inbound callers are told to go, everything is served on, until nothing is open and the
//! application has gone, or the time is over.

use std::time::{Duration, Instant};

use super::sockets;
use crate::shared::{Drain, Shared};
use crate::snapshot::Direction;

/// Between two looks at what is open.
const LOOK: Duration = Duration::from_millis(100);
/// Between "close what is left" and the end of the process, for last bytes to go out.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// How draining goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Nothing was open for this long: callers may not have heard yet that this endpoint is going, and an application
    /// that ends may still call others, now and then.
    pub quiet: Duration,
    /// At most this long.
    pub most: Duration,
    /// An application that still listens has not ended yet, and may call others although nothing is open now.
    pub with_app: bool,
}

/// Drains, then closes what is left.
pub(super) async fn drain(shared: &Shared, limits: Limits) {
    let start = Instant::now();
    shared.drain.send_replace(Drain::Draining);
    tracing::info!(at_most = ?limits.most, "draining");
    let (mut quiet_since, mut opened) = (start, shared.listeners.opened());
    loop {
        let passed = start.elapsed();
        if passed >= limits.most {
            break;
        }
        let opened_now = shared.listeners.opened();
        if open(shared) > 0 || opened_now != opened {
            (quiet_since, opened) = (Instant::now(), opened_now);
        } else if quiet_since.elapsed() >= limits.quiet && !(limits.with_app && sockets::others_listen()) {
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
