//! A control plane beside the other, and a namespace that goes over to it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::release::{ROOTS, left_of};
use super::rollout::{chain, no_failure_while};
use crate::kube::helm::{Helm, RELEASE, values_file};
use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, until};

/// Of the release and of its revision: nobody else's.
const CANARY: &str = "e2e-canary";

/// As docs/install.md has it: installed beside, over to it by label and restart, back, uninstalled.
pub(super) fn canary(turn: &Turn<'_>) -> Result<()> {
    let (space, helm) = (turn.space("shop", Mesh::Inside)?, turn.helm()?);
    chain(&space)?;
    // Of a run that was interrupted.
    if helm.values(CANARY).is_ok() {
        helm.uninstall(CANARY)?;
    }
    let moved = install(helm).and_then(|()| over_and_back(turn, &space));
    let gone = helm.uninstall(CANARY).and_then(|()| nothing_left(turn, &space));
    moved?;
    gone
}

fn nothing_left(turn: &Turn<'_>, space: &Space) -> Result<()> {
    until("nothing of the canary is left", || {
        let left = left_of(turn.world, CANARY, &[CANARY], &[])?;
        ensure!(left.is_empty(), "{}", left.join("\n"));
        Ok(())
    })?;
    // The canary wrote it too, and must not have taken it along.
    space.kubectl.run(&["get", "configmap", ROOTS])?;
    space.curl("client", &["http://front/"])?.with(200).map(drop)
}

fn install(helm: &Helm) -> Result<()> {
    let own = values_file(&helm.values(RELEASE)?)?;
    let more = values_file(&json!({"revision": CANARY, "base": {"enabled": false}}))?;
    let minimal = helm.file("mesh/files/profiles/minimal.yaml");
    helm.install(CANARY, &[own.path(), &minimal, more.path()])
}

fn over_and_back(turn: &Turn<'_>, space: &Space) -> Result<()> {
    let over = format!("istio.io/rev={CANARY}");
    no_failure_while(space, turn.world.rate, |steps| {
        for (revision, labels) in [
            (CANARY, ["istio-injection-", &over]),
            ("default", ["istio.io/rev-", "istio-injection=enabled"]),
        ] {
            steps.note(format!("over to {revision}"));
            let label = ["label", "namespace", &space.name];
            turn.world.kubectl.run(&[&label[..], &labels].concat())?;
            for side in ["deploy/back", "deploy/front"] {
                space.kubectl.run(&["rollout", "restart", side])?;
                space.rolled_out(side)?;
            }
            until(&format!("the proxies are connected to {revision}"), || {
                connected(turn, space, revision)
            })?;
        }
        Ok(())
    })
}

/// Every pod of the chain, and none but those that were restarted: the client keeps its control plane.
fn connected(turn: &Turn<'_>, space: &Space, revision: &str) -> Result<()> {
    let pods = space.kubectl.get(&["pods", "-l", "app in (back, front)"])?;
    let proxies = proxies(turn, revision)?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let meta = &pod["metadata"];
        if !meta["deletionTimestamp"].is_null() {
            continue;
        }
        let name = format!("{}.{}", meta["name"].as_str().unwrap_or_default(), space.name);
        ensure!(proxies.contains(&name), "{name} is not among {proxies:?}");
        let status = &meta["labels"]["service.istio.io/canonical-name"];
        ensure!(status.is_string(), "{name} was not injected: {meta}");
    }
    let client = proxies.contains(&format!("client.{}", space.name));
    ensure!(client == (revision != CANARY), "client at {revision}: {client}");
    Ok(())
}

/// Whom `meshctl proxy-status` shows at a revision, as NAME.NAMESPACE.
fn proxies(turn: &Turn<'_>, revision: &str) -> Result<Vec<String>> {
    let said = turn.meshctl(&["proxy-status", "--revision", revision, "-o", "json"], None)?;
    let all: Value = serde_json::from_str(&said).with_context(|| said)?;
    let names = all.as_array().into_iter().flatten();
    Ok(names.filter_map(|p| Some(p["proxy"].as_str()?.to_owned())).collect())
}
