//! A third for each pod, less for the slow one, and an end to waiting for it.

use anyhow::{Result, ensure};

use super::Labs;
use crate::kube::space::until;

pub(super) fn run(labs: &Labs<'_>) -> Result<()> {
    labs.clear()?;
    // Each worker of the proxy goes around by itself.
    labs.first("a third for each pod", 90, 6, 22..=38)?;

    labs.roll("simple-backend-delayed.yaml")?;
    labs.first("a third for the slow pod too", 90, 18, 22..=38)?;
    labs.apply("simple-backend-dr-least-conn.yaml")?;
    labs.cluster_says("LEAST_REQUEST")?;
    labs.first("less for the slow pod", 90, 18, 0..=18)?;

    labs.apply("simple-backend-dr-rr.yaml")?;
    labs.apply("simple-backend-vs-timeout.yaml")?;
    until("504 in place of the slow pod's answer", || {
        let report = labs.load(30, 3, "json:/upstream_calls/0/code")?;
        let cut = report.by_value.get("504").copied().unwrap_or_default();
        ensure!((6..=14).contains(&cut) && cut + report.ok == 30, "{report}");
        Ok(())
    })
}
