//! A pod that fails three of four requests, and what retries hide of it.

use anyhow::Result;

use super::{begin, load, percent};
use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

const REQUESTS: u64 = 60;

/// Failures of so many requests, one quarter of which goes wrong in the backend.
fn failed(stage: &Stage) -> Result<u64> {
    Ok(load(stage, REQUESTS, 2)?.failed())
}

pub(crate) fn run(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-backend-periodic-failure-503.yaml")?;
    let by_default = failed(stage)?;
    stage.apply_lab("ch6/simple-service-disable-retry.yaml")?;
    let disabled = failed(stage)?;
    stage.apply_lab("ch6/simple-backend-enable-retry.yaml")?;
    let enabled = failed(stage)?;

    begin(stage, "simple-backend-periodic-failure-500.yaml")?;
    stage.apply_lab("ch6/simple-backend-enable-retry.yaml")?;
    let not_retried = failed(stage)?;
    stage.apply_lab("ch6/simple-backend-vs-retry-500.yaml")?;
    let on_5xx = failed(stage)?;

    let rows = [
        ("503, retries off", disabled, "about 28 %"),
        ("503, Istio's default", by_default, "0 %"),
        ("503, attempts: 2", enabled, "0 %"),
        ("500, attempts: 2", not_retried, "about 28 %"),
        ("500, attempts: 2, retryOn: 5xx", on_5xx, "0 %"),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(what, n, notes)| ((*what).to_owned(), percent(*n, REQUESTS), *notes))
        .collect();
    show::figures(&rows);
    // Three of four at one pod of three: 15 of 60, and a little for requests that come side by side.
    let quarter = 10..=20;
    findings.check(
        quarter.contains(&disabled),
        "without retries a quarter of the requests fails",
    );
    findings.check(
        by_default == 0 && enabled == 0,
        "503 is hidden, by default and with two attempts",
    );
    findings.check(
        quarter.contains(&not_retried),
        "500 is not: another attempt could do harm",
    );
    findings.check(on_5xx == 0, "unless the route says so: retryOn 5xx");
    Ok(findings)
}

pub(crate) fn by_filter(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-backend-periodic-failure-408.yaml")?;
    stage.apply_lab("ch6/simple-backend-vs-retry-on.yaml")?;
    let without = failed(stage)?;
    stage.apply_lab("ch6/simple-backend-ef-retry-status-codes.yaml")?;
    let with = failed(stage)?;
    show::figures(&[
        ("408, retryOn: 5xx".to_owned(), percent(without, REQUESTS), "about 28 %"),
        ("408, with the EnvoyFilter".to_owned(), percent(with, REQUESTS), "0 %"),
    ]);
    findings.check(without >= 10, "408 is not among what is retried");
    findings.check(
        with == 0,
        "an EnvoyFilter adds it to the route's retriable status codes",
    );
    Ok(findings)
}

pub(crate) fn hedging(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-backend-delayed.yaml")?;
    let slow = load(stage, REQUESTS, 4)?.latency_ms.p90;
    stage.apply(PER_TRY)?;
    stage.apply_lab("ch6/simple-backend-ef-retry-hedge.yaml")?;
    let hedged = load(stage, REQUESTS, 4)?;
    show::figures(&[
        ("p90, one pod takes a second".to_owned(), format!("{slow:.0} ms"), "1 s"),
        (
            "p90, hedged after 400 ms".to_owned(),
            format!("{:.0} ms", hedged.latency_ms.p90),
            "less than 1 s",
        ),
    ]);
    findings.check(hedged.ok == REQUESTS, "every request is answered");
    findings.check(
        hedged.latency_ms.p90 < slow,
        "a second attempt beside the slow one answers first",
    );
    Ok(findings)
}

const PER_TRY: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: simple-backend-vs
spec:
  hosts:
  - simple-backend
  http:
  - route:
    - destination:
        host: simple-backend
    retries:
      attempts: 2
      perTryTimeout: 400ms
      retryOn: 5xx
";
