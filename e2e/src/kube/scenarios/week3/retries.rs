//! A pod that fails three of four requests: what retries hide, and how it is left out.

use anyhow::{Result, ensure};

use super::{Labs, REQUESTS};
use crate::kube::space::until;

/// Three of four of a third of the requests, and a little for those that come side by side.
const UNHIDDEN: std::ops::RangeInclusive<u64> = REQUESTS / 4 - 5..=REQUESTS / 4 + 5;

pub(super) fn run(labs: &Labs<'_>) -> Result<()> {
    labs.clear()?;
    labs.roll("simple-backend-periodic-failure-503.yaml")?;
    labs.apply("simple-service-disable-retry.yaml")?;
    labs.fail("503 is seen without retries", UNHIDDEN)?;
    labs.apply("simple-backend-enable-retry.yaml")?;
    labs.fail("503 is hidden by attempts: 2", 0..=0)?;
    labs.apply("simple-web-gateway.yaml")?;
    labs.clear()?;
    labs.fail("503 is hidden by default", 0..=0)?;

    labs.roll("simple-backend-periodic-failure-500.yaml")?;
    labs.apply("simple-backend-enable-retry.yaml")?;
    labs.fail("500 is not hidden by attempts: 2", UNHIDDEN)?;
    left_out(labs)?;

    labs.clear()?;
    labs.roll("simple-backend-periodic-failure-408.yaml")?;
    labs.apply("simple-backend-vs-retry-on.yaml")?;
    labs.fail("408 is not hidden by retryOn", UNHIDDEN)?;
    labs.apply("simple-backend-ef-retry-status-codes.yaml")?;
    labs.fail("408 is hidden by the EnvoyFilter", 0..=0)
}

/// After its first 500 the pod gets nothing for a while; retries hide that one too.
fn left_out(labs: &Labs<'_>) -> Result<()> {
    labs.apply("simple-backend-dr-outlier-5s.yaml")?;
    labs.cluster_says("\"baseEjectionTime\": \"5s\"")?;
    labs.fail("a few fail when it is left out for 5 s", 1..=REQUESTS / 8)?;
    labs.apply("simple-backend-dr-outlier.yaml")?;
    until("one of three endpoints is FAILED", || {
        labs.load(6, 2, "body")?;
        let ejected = labs.ejected()?;
        ensure!(ejected == 1, "{ejected} are");
        Ok(())
    })?;
    labs.apply("simple-backend-vs-retry-500.yaml")?;
    labs.fail("none when 5xx is retried as well", 0..=0)
}
