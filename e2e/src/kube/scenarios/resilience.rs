//! Routes, faults and ejection, by objects that are applied.

use anyhow::{Result, ensure};

use crate::kube::run::Turn;
use crate::kube::space::{Mesh, pods, until};

/// Timeout, aborts, and a version for those with a header.
pub(super) fn faults(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("shop", Mesh::Inside)?;
    space.service("slow", 1, &[("TIMING_50_PERCENTILE", "2s")])?;
    space.service("other", 1, &[])?;
    space.client("client")?;
    until("no route yet", || {
        space.curl("client", &["http://slow/"])?.with(200).map(drop)
    })?;
    space.apply(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: slow}\nspec:\n  hosts: [slow]\n  http:\n  \
         - match: [{headers: {x-canary: {exact: \"yes\"}}}]\n    route: [{destination: {host: other}}]\n  \
         - timeout: 0.5s\n    route: [{destination: {host: slow}}]\n",
    )?;
    until("the timeout", || {
        space.curl("client", &["http://slow/"])?.with(504).map(drop)
    })?;
    let canary = space
        .curl("client", &["-H", "x-canary: yes", "http://slow/"])?
        .with(200)?;
    ensure!(canary.body.contains("\"name\": \"other\""), "{}", canary.body);

    space.apply(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: other}\nspec:\n  hosts: [other]\n  http:\n  \
         - fault: {abort: {httpStatus: 418, percentage: {value: 20}}}\n    route: [{destination: {host: other}}]\n",
    )?;
    until("one in five is aborted", || {
        let report = space.load("client", "http://other/ --requests 500")?;
        let aborted = report.by_status.get(&418).copied().unwrap_or_default();
        // Of 500, one in five is 100; 45 off are five standard deviations.
        ensure!(
            (55..=145).contains(&aborted) && aborted + report.ok == 500,
            "{report:?}"
        );
        Ok(())
    })
}

/// One of three endpoints fails; callers notice little, and the endpoints' listing says which.
pub(super) fn outlier(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("shop", Mesh::Inside)?;
    space.service("backend", 2, &[])?;
    let failing = [("ERROR_TYPE", "http_error"), ("ERROR_RATE", "1"), ("ERROR_CODE", "500")];
    // The third endpoint: a Deployment of its own behind the same Service.
    space.apply(&pods("failing", "backend", "failing", 1, &failing))?;
    space
        .kubectl
        .run(&["wait", "--for=condition=Available", "deploy/failing", "--timeout=120s"])?;
    space.client("client")?;
    let failed = |count: u64| -> Result<u64> {
        Ok(space
            .load("client", &format!("http://backend/ --requests {count} --concurrency 2"))?
            .failed())
    };
    until("about a third fails", || {
        let failed = failed(300)?;
        ensure!((60..=140).contains(&failed), "{failed} of 300 fail");
        Ok(())
    })?;
    space.apply(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: backend}\nspec:\n  host: backend\n  \
         trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 120s, maxEjectionPercent: 100}}\n",
    )?;
    until("the failing endpoint is ejected", || {
        let failed = failed(300)?;
        ensure!(failed <= 3, "{failed} of 300 fail");
        Ok(())
    })?;
    let clusters = ["pilot-agent", "request", "GET", "/clusters"];
    let clusters = space.kubectl.exec("client", "istio-proxy", &clusters)?;
    let ejected = clusters
        .lines()
        .filter(|l| l.contains(&format!("backend.{}.svc", space.name)) && l.contains("/failed_outlier_check"))
        .count();
    ensure!(ejected == 1, "{ejected} endpoints are shown as ejected:\n{clusters}");
    Ok(())
}
