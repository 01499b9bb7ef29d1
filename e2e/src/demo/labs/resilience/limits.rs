//! Limits of connections and requests.

use anyhow::Result;

use super::{HOST, begin};
use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

const REQUESTS: u64 = 8;
const OVERFLOW: &str =
    "cluster.outbound|80||simple-backend.istioinaction.svc.cluster.local;.upstream_rq_pending_overflow: ";

pub(crate) fn run(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    begin(stage, "simple-backend-delayed.yaml")?;
    stage.apply_lab("ch6/simple-web-stats-incl.yaml")?;
    stage.apply_lab("ch6/simple-backend-vs-retry-on.yaml")?;
    stage.scale("simple-backend-2", 0)?;
    stage.apply_lab("ch6/simple-backend-dr-conn-limit.yaml")?;
    let (refused, told) = refused(stage, 3)?;
    let counted = overflow(stage)?;
    stage.apply(
        &stage
            .lab("ch6/simple-backend-dr-conn-limit.yaml")?
            .replace("PendingRequests: 1", "PendingRequests: 2"),
    )?;
    let (with_queue, _) = self::refused(stage, 1)?;
    stage.scale("simple-backend-2", 2)?;
    show::figures(&[
        ("refused, all limits at 1".to_owned(), refused.to_string(), "36 %"),
        ("told by x-envoy-overloaded".to_owned(), told.to_string(), "all of them"),
        (
            "upstream_rq_pending_overflow".to_owned(),
            counted.to_string(),
            "one for each",
        ),
        ("refused, two may wait".to_owned(), with_queue.to_string(), "none"),
    ]);
    findings.check(
        refused > 0 && told == refused,
        "two callers overflow one connection, and are told so",
    );
    findings.check(counted == refused, "each refusal is counted under Envoy's name");
    findings.check(with_queue == 0, "with two places to wait nobody fails");
    Ok(findings)
}

/// Refused requests of two callers, and how many were told that it is for overload; tried anew until there are some.
fn refused(stage: &Stage, rounds: usize) -> Result<(u64, u64)> {
    let (mut refused, mut told) = (0, 0);
    for _ in 0..rounds {
        let report = stage.load(HOST, REQUESTS, 2, "json:/upstream_calls/0/headers/x-envoy-overloaded")?;
        refused += report.failed();
        told += report.by_value.get("true").copied().unwrap_or_default();
        if refused > 0 {
            break;
        }
    }
    Ok((refused, told))
}

fn overflow(stage: &Stage) -> Result<u64> {
    let page = stage.admin("simple-web", "/stats")?.text();
    Ok(page
        .lines()
        .find_map(|l| l.strip_prefix(OVERFLOW))
        .and_then(|n| n.parse().ok())
        .unwrap_or_default())
}
