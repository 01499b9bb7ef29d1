//! Round robin over three pods, and what others do when one of them is slow.

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

/// The fewer callers, the more of their requests go to the slow pod: with 10 of them about as many as p90 lets be.
const CALLERS: usize = 40;

pub(crate) fn slow(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-backend-delayed.yaml")?;
    let p90 = |stage: &Stage, requests| load(stage, requests, CALLERS).map(|report| report.latency_ms.p90);
    let round_robin = p90(stage, 400)?;
    stage.apply_lab("ch6/simple-backend-dr-random.yaml")?;
    let random = p90(stage, 400)?;
    stage.apply_lab("ch6/simple-backend-dr-least-conn.yaml")?;
    let least = p90(stage, 2000)?;
    let ms = |value: f64| format!("{value:.0} ms");
    show::figures(&[
        ("p90 of ROUND_ROBIN".to_owned(), ms(round_robin), "slow"),
        ("p90 of RANDOM".to_owned(), ms(random), "slow"),
        ("p90 of LEAST_CONN".to_owned(), ms(least), "fastest of the three"),
    ]);
    findings.check(
        least < round_robin.min(random) / 2.0,
        "LEAST_CONN looks at open requests, and so goes around the slow pod",
    );
    Ok(findings)
}
