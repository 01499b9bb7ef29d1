//! Restarts under load.

use anyhow::{Result, ensure};

use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, report, until};

/// Times that each side is restarted.
const RESTARTS: usize = 3;

/// A server and an application between it and the callers.
pub(super) fn chain(space: &Space) -> Result<()> {
    space.service("back", 2, &[])?;
    space.service("front", 2, &[("UPSTREAM_URIS", "http://back/")])?;
    space.client("client")?;
    until("the chain answers", || {
        space.curl("client", &["http://front/"])?.with(200).map(drop)
    })
}

/// Both Deployments are restarted again and again while clients call.
pub(super) fn both_sides(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("shop", Mesh::Inside)?;
    chain(&space)?;
    no_failure_while(&space, 40 * RESTARTS as u32, || {
        for _ in 0..RESTARTS {
            for side in ["deploy/back", "deploy/front"] {
                space.kubectl.run(&["rollout", "restart", side])?;
                space.rolled_out(side)?;
            }
        }
        Ok(())
    })
}

/// Calls by HTTP/1.1 and HTTP/2 for so many seconds at least, and as long as the change takes; none may fail.
pub(super) fn no_failure_while(space: &Space, seconds: u32, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut clients = Vec::new();
    for (protocol, flag) in [("HTTP/1.1", ""), ("HTTP/2", "--http2")] {
        let line = format!("http://front/ --rate 50 --concurrency 32 --duration {seconds}s {flag}");
        clients.push((protocol, space.load_beside("client", &line)?));
    }
    let changed = change();
    for (protocol, client) in clients {
        let report = report(client)?;
        ensure!(report.failed() == 0 && report.sent > 0, "{protocol}: {report:?}");
    }
    changed
}
