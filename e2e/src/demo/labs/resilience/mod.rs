//! The chapter on resilience: simple-web calls simple-backend, of whose three pods one is made slow or bad.
//!
//! The files of chapter 6 are applied as they are; each lab begins from the same state.

pub(super) mod balance;
pub(super) mod limits;
pub(super) mod outlier;
pub(super) mod retries;
pub(super) mod time;

use anyhow::{Result, ensure};

use crate::demo::stage::Stage;
use crate::sample::client::load::Report;

/// Under which the gateway knows simple-web.
const HOST: &str = "simple-web.istioinaction.io";
/// What labs set, and what must not be left for the next one.
const SET_BY_LABS: &[(&str, &str)] = &[
    ("VirtualService", "simple-backend-vs"),
    ("DestinationRule", "simple-backend-dr"),
    ("EnvoyFilter", "simple-backend-retry-status-codes"),
    ("EnvoyFilter", "simple-backend-retry-hedge"),
];

/// The three services with one pod of the backend as a file of `ch6` has it, and round robin over the pods.
fn begin(stage: &Stage, backend: &str) -> Result<()> {
    stage.clear(SET_BY_LABS)?;
    // A file that only changes the one pod needs the others before it.
    let mut files = vec!["simple-web.yaml", "simple-web-gateway.yaml"];
    if backend != "simple-backend.yaml" && !stage.has_pod("simple-backend-2") {
        files.push("simple-backend.yaml");
    }
    files.extend([backend, "simple-backend-dr-rr.yaml"]);
    for file in files {
        stage.apply_lab(&format!("ch6/{file}"))?;
    }
    Ok(())
}

/// `count` requests from outside the mesh, `at_once` of them at a time, counted by the pod of the backend that answered.
fn load(stage: &Stage, count: u64, at_once: usize) -> Result<Report> {
    let report = stage.load(HOST, count, at_once, "json:/upstream_calls/0/ip_addresses/0")?;
    ensure!(
        report.errors.is_empty(),
        "requests without an answer: {:?}",
        report.errors
    );
    Ok(report)
}

/// A share in per cent.
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole.max(1) as f64)
}
