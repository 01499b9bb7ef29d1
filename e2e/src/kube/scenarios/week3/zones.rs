//! Zones by the pods' label: the caller's own, the other when it fails, and shares of both.

use anyhow::{Result, ensure};

use super::{Labs, NAMESPACE};

pub(super) fn run(labs: &Labs<'_>) -> Result<()> {
    labs.clear()?;
    labs.apply("simple-service-locality.yaml")?;
    for name in ["simple-web", "simple-backend-1", "simple-backend-2"] {
        labs.space.rolled_out(&format!("deploy/{name}"))?;
    }
    for (name, zone) in [
        ("simple-backend-1", "us-west1.us-west1-a"),
        ("simple-backend-2", "us-west1.us-west1-b"),
    ] {
        let deployment = format!("deployment.apps/{name}");
        let path = r#"jsonpath={.spec.template.metadata.labels.istio-locality}{"\n"}"#;
        let label = labs
            .turn
            .world
            .kubectl
            .run(&["get", &deployment, "-n", NAMESPACE, "-o", path])?;
        ensure!(label == zone, "{name}: {label}");
    }
    labs.apply("simple-backend-dr-outlier.yaml")?;
    labs.first("all in the own zone", 40, 8, 40..=40)?;

    labs.roll("simple-service-locality-failure.yaml")?;
    labs.first("all in the other zone when the own fails", 40, 8, 0..=0)?;

    labs.roll("simple-service-locality.yaml")?;
    labs.first("back in the own zone", 40, 8, 40..=40)?;
    labs.apply("simple-backend-dr-outlier-locality.yaml")?;
    // Of 200, 70 % is 140; 30 off are more than four standard deviations.
    labs.first("70 % in the own zone by distribute", 200, 8, 110..=170)
}
