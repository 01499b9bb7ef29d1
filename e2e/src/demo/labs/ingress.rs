//! webapp behind the ingress gateway.

use anyhow::Result;

use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

pub(super) fn run(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    let answer = stage.get("/api/catalog/items/1", &[])?;
    show::note(&format!("GET {}/api/catalog/items/1", stage.url()));
    show::note(&format!("→ {} {}", answer.status, answer.text().trim()));
    let item = answer.json().unwrap_or_default();
    findings.check(
        answer.status == 200 && item["id"] == 1,
        "the item comes from catalog, through webapp and the gateway",
    );
    let served = (0..20)
        .filter(|_| stage.get("/api/catalog", &[]).is_ok_and(|a| a.status == 200))
        .count();
    show::bar("GET /api/catalog → 200", served, 20);
    findings.check(served == 20, "every request is answered");
    Ok(findings)
}
