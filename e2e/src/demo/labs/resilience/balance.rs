//! Round robin over three pods.

use anyhow::Result;

use super::{begin, load, percent};
use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

const REQUESTS: u64 = 300;

pub(crate) fn run(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-backend.yaml")?;
    let report = load(stage, REQUESTS, 24)?;
    let even = |n: &u64| n.abs_diff(REQUESTS / 3) <= REQUESTS / 25;
    let rows: Vec<_> = report
        .by_value
        .iter()
        .map(|(pod, n)| (format!("pod {pod}"), percent(*n, REQUESTS), "33 %"))
        .collect();
    show::figures(&rows);
    findings.check(report.ok == REQUESTS, "every request is answered");
    findings.check(
        report.by_value.len() == 3 && report.by_value.values().all(even),
        "ROUND_ROBIN gives each of the three pods a third",
    );
    Ok(findings)
}
