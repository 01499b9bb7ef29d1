//! The team project's canary: more and more of the traffic to the second version, and back.

use anyhow::{Result, ensure};

use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, pods, report, service, until};

/// Requests by which shares are measured.
const ASKED: u64 = 400;

/// Per cent for the second version, step by step; the last is the way back after trouble.
const STEPS: [u64; 5] = [10, 30, 50, 100, 0];

pub(super) fn weights(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("shop", Mesh::Inside)?;
    space.apply(&(service("product") + &two_versions("product")))?;
    for version in ["v1", "v2"] {
        space.rolled_out(&format!("deploy/product-{version}"))?;
    }
    space.client("client")?;
    space.apply(
        "apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\nmetadata: {name: product}\nspec:\n  host: product\n  \
         subsets:\n  - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}\n",
    )?;
    weigh(&space, 0)?;
    until("all on the first version", || is_share(&space, 0))?;
    let rate = (turn.world.rate / 3).max(1);
    let line = format!("http://product/ --rate {rate} --concurrency 32");
    let beside = space.load_beside("client", &line)?;
    let moved = STEPS.iter().try_for_each(|second| {
        weigh(&space, *second)?;
        until(&format!("{second} % on the second version"), || {
            is_share(&space, *second)
        })
    });
    let report = report(beside)?;
    moved?;
    ensure!(
        report.failed() == 0 && report.sent > 0,
        "while weights change: {report}"
    );
    Ok(())
}

/// Deployments `NAME-v1` and `NAME-v2` of one pod each.
pub(super) fn two_versions(name: &str) -> String {
    let version = |version: &str| pods(&format!("{name}-{version}"), name, version, 1, &[]);
    format!("{}---\n{}", version("v1"), version("v2"))
}

fn weigh(space: &Space, second: u64) -> Result<()> {
    space.apply(&format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: product}}\nspec:\n  hosts: [product]\n  \
         http:\n  - route:\n    - {{destination: {{host: product, subset: v1}}, weight: {}}}\n    \
         - {{destination: {{host: product, subset: v2}}, weight: {second}}}\n",
        100 - second
    ))
}

fn is_share(space: &Space, percent: u64) -> Result<()> {
    let line = format!("http://product/ --requests {ASKED} --count-by json:/name");
    let report = space.load("client", &line)?;
    let got = report.by_value.get("product-v2").copied().unwrap_or_default();
    let share = percent as f64 / 100.0;
    let (mean, deviation) = (ASKED as f64 * share, (ASKED as f64 * share * (1.0 - share)).sqrt());
    ensure!(
        report.failed() == 0 && (got as f64 - mean).abs() <= 4.5 * deviation,
        "{got} of {ASKED} on the second version: {report}"
    );
    Ok(())
}
