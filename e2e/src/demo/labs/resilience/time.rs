//! A pod that takes a second, and a route that waits half of that; faults that a route makes.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{HOST, begin, percent};
use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn timeout(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-backend-delayed.yaml")?;
    let slowest = slowest(stage, 3)?.0;
    stage.apply_lab("ch6/simple-backend-vs-timeout.yaml")?;
    let (after, codes) = self::slowest(stage, 6)?;
    let cut = codes.iter().filter(|code| **code == 504).count();
    show::figures(&[
        ("slowest without timeout".to_owned(), seconds(slowest), "1.0 s"),
        ("slowest with timeout 0.5s".to_owned(), seconds(after), "0.5 s"),
        (
            "504 among 6 answers of the backend".to_owned(),
            cut.to_string(),
            "every third",
        ),
    ]);
    findings.check(slowest >= SECOND, "one of three pods takes a second");
    findings.check(cut >= 2, "with timeout 0.5s the slow one becomes a 504");
    Ok(findings)
}

/// The longest time of so many requests, and the codes that simple-web got.
fn slowest(stage: &Stage, count: usize) -> Result<(Duration, Vec<u64>)> {
    let (mut slowest, mut codes) = (Duration::ZERO, Vec::new());
    for _ in 0..count {
        let start = Instant::now();
        let answer = stage.get_from(HOST, "/")?;
        slowest = slowest.max(start.elapsed());
        codes.push(answer.json()?["upstream_calls"][0]["code"].as_u64().unwrap_or_default());
    }
    Ok((slowest, codes))
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

pub(crate) fn faults(stage: &mut Stage) -> Result<Findings> {
    const REQUESTS: u64 = 200;
    let mut findings = Findings::default();
    begin(stage, "simple-backend.yaml")?;
    stage.apply(&fault("delay: {fixedDelay: 3s, percent: 100}"))?;
    let (delayed, _) = slowest(stage, 1)?;
    stage.apply(&fault("abort: {httpStatus: 500, percent: 20}"))?;
    let report = stage.load(HOST, REQUESTS, 16, "json:/upstream_calls/0/code")?;
    let aborted = report.by_value.get("500").copied().unwrap_or_default();
    show::figures(&[
        ("delay 3s for 100 per cent".to_owned(), seconds(delayed), "3 s"),
        (
            "abort 500 for 20 per cent".to_owned(),
            percent(aborted, REQUESTS),
            "20 %",
        ),
    ]);
    findings.check(
        delayed >= 3 * SECOND,
        "the delay is there, though no application is slow",
    );
    // Five standard deviations around 40 of 200.
    findings.check(
        (12..=68).contains(&aborted),
        "about a fifth is aborted, though no application fails",
    );
    Ok(findings)
}

/// As the book has them, with the backend's name.
fn fault(fault: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata:\n  name: simple-backend-vs\nspec:\n  hosts:\n  - simple-backend\n  http:\n  - route:\n    - destination:\n        host: simple-backend\n    fault: {{{fault}}}\n"
    )
}
