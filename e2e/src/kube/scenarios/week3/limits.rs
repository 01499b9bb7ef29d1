//! One connection, one that waits, and whoever is too much.

use anyhow::{Result, ensure};

use super::{Labs, NAMESPACE};
use crate::kube::space::until;

pub(super) fn run(labs: &Labs<'_>) -> Result<()> {
    let kubectl = &labs.space.kubectl;
    labs.clear()?;
    kubectl.run(&["scale", "deploy", "simple-backend-2", "--replicas=0", "-n", NAMESPACE])?;
    labs.roll("simple-backend-delayed.yaml")?;
    labs.apply("simple-backend-vs-retry-on.yaml")?;
    labs.first("all by the one pod that is left", 3, 3, 3..=3)?;

    labs.apply("simple-backend-dr-conn-limit.yaml")?;
    labs.cluster_says("\"maxPendingRequests\": 1,")?;
    until("the third caller is refused, told so, and counted", || {
        labs.admin(&["-s", "-X", "POST", "localhost:15000/reset_counters"])?;
        let report = labs.load(9, 3, "json:/upstream_calls/0/headers/x-envoy-overloaded")?;
        let told = report.by_value.get("true").copied().unwrap_or_default();
        let counted = labs.counter("upstream_rq_pending_overflow")?;
        ensure!(
            told > 0 && (told, counted) == (report.failed(), report.failed()),
            "{told} were told, {counted} counted: {report}"
        );
        Ok(())
    })?;

    let patch = r#"{"spec": {"trafficPolicy": {"connectionPool": {"http": {"http1MaxPendingRequests": 2}}}}}"#;
    let dr = ["patch", "destinationrule", "simple-backend-dr"];
    kubectl.run(&[&dr[..], &["-n", NAMESPACE, "--type", "merge", "--patch", patch]].concat())?;
    labs.cluster_says("\"maxPendingRequests\": 2,")?;
    until("nobody is refused when two may wait", || {
        labs.admin(&["-s", "-X", "POST", "localhost:15000/reset_counters"])?;
        let report = labs.load(6, 3, "body")?;
        let counted = labs.counter("upstream_rq_pending_overflow")?;
        ensure!(report.failed() == 0 && counted == 0, "{counted} counted: {report}");
        Ok(())
    })
}
