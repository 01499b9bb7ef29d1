//! Capture by the node agent in place of an init container.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::rollout::{chain, no_failure_while};
use super::security::{strict, strict_for};
use crate::kube::kubectl::Kubectl;
use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, contains, until};

const AGENT: &str = "daemonset/istio-cni-node";
const AGENT_PODS: &str = "k8s-app=istio-cni-node";
/// The plugin's name, as type in the network's configuration and as program.
const PLUGIN: &str = "istio-cni";
const VALIDATION: &str = "istio-validation";
/// What an init container ends with that finds its pod not captured.
const NOT_CAPTURED: i64 = 126;

/// The release in this mode, whatever can go wrong with it on a node, and back.
pub(super) fn mode(turn: &Turn<'_>) -> Result<()> {
    let node = Node::new(turn)?;
    let before = node.network()?;
    ensure!(
        !before.contains(PLUGIN),
        "the mesh is in CNI mode already, or its plugin was left:\n{before}"
    );
    turn.helm()?.while_changed(&json!({"cni": {"enabled": true}}), || {
        until("the plugin is in place", || contains(&node.network()?, PLUGIN))?;
        strict(turn)?;
        no_pod_writes_rules(&turn.world.kubectl.within("cni-mode-inside"))?;
        let space = turn.space("shop", Mesh::Inside)?;
        strict_for(&space)?;
        chain(&space)?;
        agent_killed(turn, &space)?;
        node.write(&before)?;
        until("the plugin is in place again", || contains(&node.network()?, PLUGIN))?;
        agent_away(turn, &space, &node, &before)
    })?;
    until("the node's network is as it was", || {
        let (before, after): (Value, Value) = (serde_json::from_str(&before)?, serde_json::from_str(&node.network()?)?);
        ensure!(after == before, "{after:#}");
        let programs = node.hand.kubectl.exec("hand", "app", &["ls", "/host/bin"])?;
        ensure!(!programs.lines().any(|p| p == PLUGIN), "{programs}");
        Ok(())
    })?;
    let after = turn.space("after", Mesh::Inside)?;
    after.client("client")?;
    let pods = after.containers("app=client")?;
    ensure!(pods.iter().all(|(init, _)| init == &["istio-init"]), "{pods:?}");
    Ok(())
}

/// In this mode no container may change the network, and the first one checks that somebody else did.
fn no_pod_writes_rules(kubectl: &Kubectl) -> Result<()> {
    let pods = kubectl.get(&["pods"])?;
    let pods = pods["items"].as_array().context("a list of pods")?;
    ensure!(!pods.is_empty(), "no pods");
    for pod in pods {
        let (name, spec) = (&pod["metadata"]["name"], &pod["spec"]);
        let init: Vec<&Value> = spec["initContainers"].as_array().into_iter().flatten().collect();
        ensure!(
            init.len() == 1 && init[0]["name"] == VALIDATION,
            "{name}: init containers {init:?}"
        );
        let all = init
            .into_iter()
            .chain(spec["containers"].as_array().into_iter().flatten());
        for container in all {
            let context = &container["securityContext"];
            ensure!(
                context["capabilities"]["add"].is_null() && context["privileged"] != true,
                "{name}: {container}"
            );
        }
    }
    Ok(())
}

/// The plugin goes on without its agent.
fn agent_killed(turn: &Turn<'_>, space: &Space) -> Result<()> {
    let system = turn.system();
    no_failure_while(space, turn.world.rate, |steps| {
        steps.note("the agents are killed");
        system.run(&["delete", "pod", "-l", AGENT_PODS, "--grace-period=0", "--force"])?;
        space.client("started-meanwhile")?;
        steps.note("a pod has started");
        space.curl("started-meanwhile", &["http://front/"])?.with(200)?;
        system.run(&["rollout", "status", AGENT, "--timeout=120s"]).map(drop)
    })
}

/// Without the agent and without the plugin, a pod waits; the agent sets it up when it is back.
fn agent_away(turn: &Turn<'_>, space: &Space, node: &Node, network: &str) -> Result<()> {
    let system = turn.system();
    let only_on = |label: Value| {
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"e2e.ferromesh/none": label}}}}});
        system.run(&["patch", AGENT, "-p", &patch.to_string()])
    };
    only_on(json!("here"))?;
    system.run(&["wait", "--for=delete", "pod", "-l", AGENT_PODS, "--timeout=120s"])?;
    contains(&node.network()?, PLUGIN).context("an agent that only goes for a while leaves the plugin")?;
    node.write(network)?;
    space.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: waits, labels: {{app: waits}}}}\nspec:\n  nodeName: {}\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: app\n    image: IMAGE\n    \
         env: [{{name: SAMPLE_IMAGE, value: netshoot}}]\n",
        node.name
    ))?;
    until("the pod sees that it is not captured", || {
        let pod = space.kubectl.get(&["pod", "waits"])?;
        let status = &pod["status"]["initContainerStatuses"][0];
        let code = |state: &str| status[state]["terminated"]["exitCode"].as_i64();
        ensure!(
            status["name"] == VALIDATION && [code("state"), code("lastState")].contains(&Some(NOT_CAPTURED)),
            "{status}"
        );
        Ok(())
    })?;
    let pod = space.kubectl.get(&["pod", "waits"])?;
    let started = &pod["status"]["containerStatuses"][0]["started"];
    ensure!(*started != true, "a container of an uncaptured pod was started: {pod}");
    only_on(Value::Null)?;
    system.run(&["rollout", "status", AGENT, "--timeout=120s"])?;
    space.ready("pod/waits")?;
    space.curl("waits", &["http://front/"])?.with(200).map(drop)
}

/// A node, by a pod on it that has its folders.
struct Node {
    hand: Space,
    name: String,
}

impl Node {
    fn new(turn: &Turn<'_>) -> Result<Self> {
        let hand = turn.space("node", Mesh::Outside)?;
        hand.apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: hand}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
             - name: app\n    image: IMAGE\n    env: [{name: SAMPLE_IMAGE, value: netshoot}]\n    volumeMounts:\n    \
             - {name: net, mountPath: /host/net.d}\n    - {name: bin, mountPath: /host/bin, readOnly: true}\n  volumes:\n  \
             - {name: net, hostPath: {path: /etc/cni/net.d}}\n  - {name: bin, hostPath: {path: /opt/cni/bin}}\n",
        )?;
        hand.ready("pod/hand")?;
        let name = hand
            .kubectl
            .run(&["get", "pod", "hand", "-o", "jsonpath={.spec.nodeName}"])?;
        Ok(Node { hand, name })
    }

    /// The configuration that the runtime takes.
    fn network(&self) -> Result<String> {
        self.shell("cat \"$file\"", "")
    }

    /// As another hand does it: over what is there.
    fn write(&self, text: &str) -> Result<()> {
        self.shell("printf '%s\\n' \"$1\" > \"$file\"", text).map(drop)
    }

    fn shell(&self, script: &str, argument: &str) -> Result<String> {
        let first = "set -- \"$1\" /host/net.d/*.conf*; file=$2; ";
        let script = format!("{first}{script}");
        self.hand
            .kubectl
            .exec("hand", "app", &["sh", "-c", &script, "sh", argument])
    }
}
