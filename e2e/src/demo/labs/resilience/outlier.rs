//! A pod that fails is left out for a while; so is a zone.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{HOST, begin, load, percent};
use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

const REQUESTS: u64 = 120;
/// How long an ejection may take to be seen; the first failure is enough for it.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-backend-periodic-failure-500.yaml")?;
    let without = load(stage, REQUESTS, 2)?.failed();
    stage.apply_lab("ch6/simple-backend-dr-outlier-5s.yaml")?;
    let with = load(stage, REQUESTS, 2)?.failed();
    stage.apply_lab("ch6/simple-backend-dr-outlier.yaml")?;
    let ejected = until_ejected(stage)?;
    stage.apply_lab("ch6/simple-backend-vs-retry-500.yaml")?;
    let retried = load(stage, REQUESTS, 2)?.failed();
    show::figures(&[
        (
            "failures without ejection".to_owned(),
            percent(without, REQUESTS),
            "28.3 %",
        ),
        (
            "failures with ejection after one".to_owned(),
            percent(with, REQUESTS),
            "3.3 %",
        ),
        (
            "failures with retries as well".to_owned(),
            percent(retried, REQUESTS),
            "0 %",
        ),
        (
            "endpoints shown as FAILED".to_owned(),
            format!("{ejected} of 3"),
            "1 of 3",
        ),
    ]);
    findings.check(
        without >= REQUESTS / 6,
        "a pod that fails three of four is a quarter of all requests",
    );
    findings.check(
        with <= REQUESTS / 12,
        "left out after its first failure it is a few per cent",
    );
    findings.check(ejected == 1, "the proxy shows the one endpoint as FAILED");
    findings.check(retried == 0, "retries on 5xx hide those too");
    Ok(findings)
}

/// Endpoints that are ejected, after so many requests that there is one.
fn until_ejected(stage: &Stage) -> Result<usize> {
    let deadline = Instant::now() + LIMIT;
    loop {
        stage.get_from(HOST, "/")?;
        let page = stage.admin("simple-web", "/clusters")?.text();
        let ejected = page
            .lines()
            .filter(|l| l.contains("simple-backend.") && l.contains("failed_outlier_check"))
            .count();
        if ejected > 0 {
            return Ok(ejected);
        }
        ensure!(Instant::now() < deadline, "no endpoint was ejected within {LIMIT:?}");
    }
}

pub(crate) fn locality(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-service-locality.yaml")?;
    stage.apply_lab("ch6/simple-backend-dr-outlier.yaml")?;
    let healthy = own_zone(stage, 60)?;
    stage.apply_lab("ch6/simple-service-locality-failure.yaml")?;
    until_ejected(stage)?;
    let failed = own_zone(stage, 60)?;
    stage.apply_lab("ch6/simple-service-locality.yaml")?;
    let back = own_zone(stage, 60)?;
    stage.apply_lab("ch6/simple-backend-dr-outlier-locality.yaml")?;
    let distributed = own_zone(stage, 300)?;
    // Labs after this one begin with pods without zones.
    stage.apply_lab("ch6/simple-web.yaml")?;
    stage.apply_lab("ch6/simple-backend.yaml")?;
    show::figures(&[
        ("own zone, healthy".to_owned(), percent(healthy, 60), "100 %"),
        ("own zone, failing".to_owned(), percent(failed, 60), "0 %"),
        ("own zone, well again".to_owned(), percent(back, 60), "100 %"),
        (
            "own zone, distribute 70/30".to_owned(),
            percent(distributed, 300),
            "70 %",
        ),
    ]);
    findings.check(
        healthy == 60,
        "all traffic stays in the caller's zone while that is healthy",
    );
    findings.check(failed == 0, "all of it goes elsewhere when that zone fails");
    findings.check(back == 60, "and comes back after");
    findings.check(
        (186..=234).contains(&distributed),
        "distribute gives the own zone 70 of 100",
    );
    Ok(findings)
}

/// Answers that the pod of the caller's zone gave.
fn own_zone(stage: &Stage, count: u64) -> Result<u64> {
    let report = stage.load(HOST, count, 6, "json:/upstream_calls/0/body")?;
    Ok(report
        .by_value
        .get("Hello from simple-backend-1")
        .copied()
        .unwrap_or_default())
}
