//! What Helm does to a cluster: manifests, `upgrade`, `uninstall`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::rollout::{chain, no_failure_while};
use crate::kube::helm::RELEASE;
use crate::kube::kubectl::{Kubectl, finish};
use crate::kube::run::{Turn, World};
use crate::kube::space::{Mesh, contains, until};

/// Begins each line of the access log while the release is changed.
const MARK: &str = "e2e-upgraded";

/// A dry run at the API server of everything that the charts render.
pub(super) fn accepted(turn: &Turn<'_>) -> Result<()> {
    let (python, charts) = turn.world.python.as_ref().context("no --python")?;
    let mut matrix = Command::new(python);
    matrix.arg(charts.join("tools/matrix.py")).arg("--server-only");
    if let Some(kubeconfig) = turn.world.kubectl.kubeconfig() {
        matrix.arg("--kubeconfig").arg(kubeconfig);
    }
    finish(matrix, None).map(drop)
}

/// One more replica, and a setting of the mesh that proxies take without a restart.
pub(super) fn upgraded(turn: &Turn<'_>) -> Result<()> {
    let (space, system, helm) = (turn.space("shop", Mesh::Inside)?, turn.system(), turn.helm()?);
    chain(&space)?;
    let replicas = || system.run(&["get", "deploy", "istiod", "-o", "jsonpath={.status.readyReplicas}"]);
    let before: u32 = replicas()?.parse().context("replicas of istiod")?;
    let more = json!({
        "pilot": {"autoscaleEnabled": false, "replicaCount": before + 1},
        "meshConfig": {"accessLogFile": "/dev/stdout", "accessLogFormat": format!("{MARK} %REQ(:PATH)%\n")},
    });
    let log = || {
        space
            .kubectl
            .run(&["logs", "deploy/front", "-c", "istio-proxy", "--tail=1"])
    };
    no_failure_while(&space, turn.world.rate, |steps| {
        steps.note("helm upgrade to other values");
        helm.while_changed(&more, || {
            steps.note("in force?");
            ensure!(
                replicas()? == (before + 1).to_string(),
                "replicas of istiod: {}",
                replicas()?
            );
            until("the access log has its new form", || contains(&log()?, MARK))?;
            steps.note("helm upgrade to the values of before");
            Ok(())
        })?;
        until("the access log has its own form again", || {
            let line = log()?;
            ensure!(!line.contains(MARK), "{line}");
            Ok(())
        })?;
        until("as many replicas as before", || {
            ensure!(replicas()? == before.to_string(), "{}", replicas()?);
            Ok(())
        })
    })
}

/// The last of all: afterwards there is no mesh.
pub(super) fn uninstalled(turn: &Turn<'_>) -> Result<()> {
    let world = turn.world;
    let definitions = || -> Result<Vec<String>> {
        let all = world.kubectl.run(&["get", "crd", "-o", "name"])?;
        Ok(all
            .lines()
            .filter(|l| l.ends_with(".istio.io"))
            .map(str::to_owned)
            .collect())
    };
    let before = definitions()?;
    turn.helm()?.uninstall(RELEASE)?;
    until("no more than docs/install.md names is left", || {
        let left = left_of(
            world,
            RELEASE,
            &["istio", "mesh"],
            &["secret/istio-ca-secret", "secret/cacerts"],
        )?;
        ensure!(left.is_empty(), "{}", left.join("\n"));
        Ok(())
    })?;
    let after = definitions()?;
    ensure!(after == before, "CustomResourceDefinitions: {before:?}, then {after:?}");
    // A webhook that was left would keep it from starting.
    let space = turn.space("inside", Mesh::Inside)?;
    space.client("plain")?;
    let pods = space.containers("app=plain")?;
    ensure!(pods.iter().all(|(i, c)| i.is_empty() && c.len() == 1), "{pods:?}");
    Ok(())
}

/// Kinds of everything that the charts and the control plane make, apart from CustomResourceDefinitions, which stay.
const KINDS: &str = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,\
                     deployments,daemonsets,replicasets,pods,services,endpoints,configmaps,secrets,serviceaccounts,roles,\
                     rolebindings,poddisruptionbudgets,horizontalpodautoscalers,resourcequotas,leases";
/// Written into every namespace by the control plane.
pub(super) const ROOTS: &str = "istio-ca-root-cert";

/// Objects that Helm says are of this release; those of the cluster, or of the mesh's namespace, with one of these words in
/// their names; and, once the mesh itself is gone, its roots in any namespace. Apart from these, given as KIND/NAME.
pub(super) fn left_of(world: &World, release: &str, words: &[&str], apart: &[&str]) -> Result<Vec<String>> {
    let kubectl: &Kubectl = &world.kubectl;
    let all = kubectl.get(&[KINDS, "-A"])?;
    let mut left = Vec::new();
    for one in all["items"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &one["metadata"];
        let (kind, name, namespace) = (
            text(&one["kind"]).to_lowercase(),
            text(&meta["name"]),
            text(&meta["namespace"]),
        );
        let annotation = |name: &str| text(&meta["annotations"][name]);
        let of_release = annotation("meta.helm.sh/release-name") == release
            && annotation("meta.helm.sh/release-namespace") == world.system;
        let near = namespace.is_empty() || namespace == world.system;
        let named = near && words.iter().any(|word| name.contains(word));
        let roots = release == RELEASE && name == ROOTS;
        let full = format!("{kind}/{name}");
        if (of_release || named || roots) && !apart.contains(&full.as_str()) {
            left.push(format!("{namespace} {full}").trim().to_owned());
        }
    }
    Ok(left)
}
