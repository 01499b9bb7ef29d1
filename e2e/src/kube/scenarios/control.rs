//! The control plane goes away and comes back.

use anyhow::{Result, ensure};

use super::rollout::{chain, no_failure_while};
use crate::kube::run::Turn;
use crate::kube::space::{Mesh, contains, until};

/// Rolled, then killed; nobody who calls notices, and a change is taken afterwards.
pub(super) fn restarts(turn: &Turn<'_>) -> Result<()> {
    let (space, system) = (turn.space("shop", Mesh::Inside)?, turn.system());
    chain(&space)?;
    no_failure_while(&space, turn.world.rate, |steps| {
        steps.note("istiod is rolled");
        system.run(&["rollout", "restart", "deploy/istiod"])?;
        system.run(&["rollout", "status", "deploy/istiod", "--timeout=120s"])?;
        steps.note("istiod is killed");
        system.run(&["delete", "pod", "-l", "app=istiod", "--grace-period=0", "--force"])?;
        system.run(&["rollout", "status", "deploy/istiod", "--timeout=120s"])?;
        Ok(())
    })?;
    space.apply(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: front}\nspec:\n  hosts: [front]\n  \
         http: [{directResponse: {status: 299}}]\n",
    )?;
    until("a change is taken", || {
        space.curl("client", &["http://front/"])?.with(299).map(drop)
    })
}

/// Nothing starts uncaptured, and who is not in the mesh is not concerned.
pub(super) fn webhook_away(turn: &Turn<'_>) -> Result<()> {
    let (inside, outside) = (
        turn.space("inside", Mesh::Inside)?,
        turn.space("outside", Mesh::Outside)?,
    );
    let system = turn.system();
    let replicas = system.run(&["get", "deploy", "istiod", "-o", "jsonpath={.spec.replicas}"])?;
    system.run(&["scale", "deploy/istiod", "--replicas=0"])?;
    let checked = (|| {
        system.run(&["wait", "--for=delete", "pod", "-l", "app=istiod", "--timeout=120s"])?;
        outside.client("plain")?;
        let refused = inside
            .kubectl
            .run(&["run", "labelled", "--image=nothing", "--restart=Never"]);
        let error = format!(
            "{:#}",
            refused.err().unwrap_or_else(|| anyhow::anyhow!("a pod was made"))
        );
        contains(&error, "failed calling webhook")
    })();
    system.run(&["scale", "deploy/istiod", &format!("--replicas={replicas}")])?;
    system.run(&["rollout", "status", "deploy/istiod", "--timeout=120s"])?;
    checked?;
    until("the webhook is back", || inside.client("later"))?;
    let pods = inside.containers("app=later")?;
    ensure!(
        pods.iter().all(|(_, c)| c.contains(&"istio-proxy".to_owned())),
        "{pods:?}"
    );
    Ok(())
}
