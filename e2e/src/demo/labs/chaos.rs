//! Half of catalog's answers are 500; then retries.

use anyhow::Result;

use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

const REQUESTS: usize = 200;

pub(super) fn run(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    super::canary::two_versions(stage)?;
    // One version, and no retries: what the application does is what the caller sees.
    stage.apply(NO_RETRIES)?;
    stage.chaos(r#"{"active":true,"type":"500","percentage":50}"#)?;
    let before = succeeded(stage);
    show::bar("50 % chaos, no retries", before, REQUESTS);

    stage.apply_lab("ch2/catalog-virtualservice.yaml")?;
    let after = succeeded(stage);
    show::bar("50 % chaos, three retries", after, REQUESTS);
    stage.chaos(r#"{"active":false}"#)?;

    findings.check(
        before > REQUESTS / 5 && before < REQUESTS * 4 / 5,
        "about half succeed without retries",
    );
    // Four tries at one half leave 6 %, 12 of 200; 40 would be eight standard deviations away.
    findings.check(
        after > REQUESTS - 40,
        "most succeed with three retries: 94 %, give or take chance",
    );
    Ok(findings)
}

fn succeeded(stage: &Stage) -> usize {
    (0..REQUESTS)
        .filter(|_| stage.get("/api/catalog/items/1", &[]).is_ok_and(|a| a.status == 200))
        .count()
}

const NO_RETRIES: &str = "apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: catalog
spec:
  hosts:
  - catalog
  http:
  - route:
    - destination:
        host: catalog
        subset: version-v1
    retries:
      attempts: 0
";
