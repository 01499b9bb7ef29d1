//! Restarts under load.

use std::fmt::Write as _;

use anyhow::{Result, anyhow, ensure};
use jiff::Timestamp;

use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, report, until};

/// Pods of each side of the chain.
const REPLICAS: u32 = 2;

/// A server and an application between it and the callers.
pub(super) fn chain(space: &Space) -> Result<()> {
    space.service("back", REPLICAS, &[])?;
    let upstreams = [("UPSTREAM_URIS", "http://back/,grpc://back:8082")];
    space.service("front", REPLICAS, &upstreams)?;
    space.client("client")?;
    until("the chain answers", || {
        for (protocol, target) in CLIENTS {
            let report = space.load("client", &format!("{target} --requests 1"))?;
            ensure!(report.failed() == 0, "{protocol}: {report}");
        }
        Ok(())
    })
}

/// Both Deployments are restarted again and again while clients call.
pub(super) fn both_sides(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("shop", Mesh::Inside)?;
    chain(&space)?;
    no_failure_while(&space, turn.world.rate, |steps| {
        for round in 1..=turn.world.restarts {
            for side in ["back", "front"] {
                steps.note(format!("restart {round} of {side}"));
                let workload = format!("deploy/{side}");
                space.kubectl.run(&["rollout", "restart", &workload])?;
                space.rolled_out(&workload)?;
            }
        }
        steps.note("the last pods end");
        until("only the newest pods are left", || {
            let pods = space
                .kubectl
                .run(&["get", "pods", "-l", "app in (back, front)", "-o", "name"])?;
            let left = pods.lines().count();
            ensure!(left == 2 * REPLICAS as usize, "{left} pods:\n{pods}");
            Ok(())
        })
    })
}

/// Who calls: protocol, and the arguments of the load client.
const CLIENTS: [(&str, &str); 3] = [
    ("HTTP/1.1", "http://front/"),
    ("HTTP/2", "http://front:8081/ --http2"),
    ("gRPC", "http://front:8082 --grpc"),
];

/// What was done when, to be held against the times of failures.
#[derive(Default)]
pub(super) struct Steps(String);

impl Steps {
    pub(super) fn note(&mut self, what: impl Into<String>) {
        let now = Timestamp::now().strftime("%H:%M:%S%.3f");
        // Writing to a String cannot fail.
        let _ = write!(self.0, "\n    {now} {}", what.into());
    }
}

/// Calls by each protocol, so many a second in all, for as long as the change takes; none may fail.
pub(super) fn no_failure_while(space: &Space, rate: u32, change: impl FnOnce(&mut Steps) -> Result<()>) -> Result<()> {
    let mut clients = Vec::new();
    let rate = (rate / CLIENTS.len() as u32).max(1);
    for (protocol, target) in CLIENTS {
        let line = format!("{target} --rate {rate} --concurrency 64");
        clients.push((protocol, space.load_beside("client", &line)?));
    }
    let mut steps = Steps::default();
    let changed = change(&mut steps);
    let (mut failed, mut text) = (false, String::new());
    for (protocol, client) in clients {
        let report = report(client)?;
        failed |= report.failed() > 0 || report.sent == 0;
        text += &format!("\n  {protocol}: {report}");
    }
    changed?;
    if failed {
        return Err(anyhow!("requests failed:{text}\n  what was done:{}", steps.0));
    }
    println!("  {}:{text}", space.name);
    Ok(())
}
