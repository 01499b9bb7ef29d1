//! Two versions of catalog: by header, then by weight.

use anyhow::Result;

use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

/// Both versions, and the subsets that tell them apart. Applying them again changes nothing.
pub(super) fn two_versions(stage: &Stage) -> Result<()> {
    stage.apply_lab("services/catalog-deployment-v2.yaml")?;
    stage.apply_lab("ch2/catalog-destinationrule.yaml")
}

pub(super) fn by_header(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    two_versions(stage)?;
    stage.apply_lab("ch2/catalog-virtualservice-all-v1.yaml")?;
    let v2 = versions(stage, 20, &[])?;
    show::bar("all on v1: v1", 20 - v2, 20);
    findings.check(v2 == 0, "v2 runs, and gets nothing");

    stage.apply_lab("ch2/catalog-virtualservice-dark-v2.yaml")?;
    let dark = [("x-dark-launch", "v2")];
    let (plain, with_header) = (versions(stage, 20, &[])?, versions(stage, 20, &dark)?);
    show::bar("without the header: v1", 20 - plain, 20);
    show::bar("x-dark-launch: v2: v2", with_header, 20);
    findings.check(plain == 0, "without the header all stays on v1");
    findings.check(with_header == 20, "with the header all goes to v2");
    Ok(findings)
}

pub(super) fn by_weight(stage: &mut Stage) -> Result<Findings> {
    const REQUESTS: usize = 400;
    let mut findings = Findings::default();
    two_versions(stage)?;
    for (v1, v2) in [(90, 10), (50, 50), (0, 100)] {
        stage.apply(&weights(v1, v2))?;
        let got = versions(stage, REQUESTS, &[])?;
        show::bar(&format!("{v1}/{v2}: v2"), got, REQUESTS);
        // Five standard deviations of a fair draw: a wrong weight shows, chance does not.
        let expected = REQUESTS * v2 / 100;
        let spread = (5.0 * ((REQUESTS * v1 * v2) as f64).sqrt() / 100.0).ceil() as usize;
        findings.check(
            got.abs_diff(expected) <= spread,
            &format!("{v2} % ± {spread} of {REQUESTS} go to v2"),
        );
    }
    Ok(findings)
}

/// How many of `n` answers came from v2.
fn versions(stage: &Stage, n: usize, headers: &[(&str, &str)]) -> Result<usize> {
    let mut v2 = 0;
    for _ in 0..n {
        let answer = stage.get("/api/catalog/items/1", headers)?;
        anyhow::ensure!(
            answer.status == 200,
            "the gateway answered {}: {}",
            answer.status,
            answer.text()
        );
        v2 += usize::from(answer.text().contains("imageUrl"));
    }
    Ok(v2)
}

fn weights(v1: usize, v2: usize) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3
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
      weight: {v1}
    - destination:
        host: catalog
        subset: version-v2
      weight: {v2}
"
    )
}
