//! Workloads other than Deployments.

use anyhow::{Result, ensure};

use super::security::strict_for;
use crate::kube::run::Turn;
use crate::kube::space::{Mesh, until};

/// The Job's container calls a service, then ends its proxy as Istio's users do.
pub(super) fn job(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("batch", Mesh::Inside)?;
    space.service("server", 1, &[])?;
    space.apply(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec:\n  backoffLimit: 0\n  template:\n    metadata:\n      \
         annotations: {proxy.istio.io/config: \"holdApplicationUntilProxyStarts: true\"}\n    spec:\n      \
         restartPolicy: Never\n      containers:\n      - name: app\n        image: IMAGE\n        command: [sh, -c]\n        args:\n        \
         - curl -sf http://server/ && curl -sf -X POST localhost:15020/quitquitquit\n",
    )?;
    space
        .kubectl
        .run(&["wait", "--for=condition=Complete", "job/once", "--timeout=120s"])
        .map(drop)
}

/// Each pod answers by its own name, and all by the service's.
pub(super) fn stateful(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("store", Mesh::Inside)?;
    strict_for(&space)?;
    space.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: store}\nspec:\n  clusterIP: None\n  selector: {app: store}\n  \
         ports: [{name: http, port: 8080}]\n---\n\
         apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: store}\nspec:\n  serviceName: store\n  replicas: 2\n  \
         selector: {matchLabels: {app: store}}\n  template:\n    metadata: {labels: {app: store}}\n    spec:\n      \
         terminationGracePeriodSeconds: 1\n      containers:\n      - name: app\n        image: IMAGE\n        \
         ports: [{containerPort: 8080}]\n        env:\n        \
         - {name: SAMPLE_IMAGE, value: \"nicholasjackson/fake-service:v0.17.0\"}\n        \
         - {name: LISTEN_ADDR, value: \"0.0.0.0:8080\"}\n        \
         - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n",
    )?;
    space.rolled_out("statefulset/store")?;
    space.client("client")?;
    for pod in ["store-0", "store-1"] {
        let url = format!("http://{pod}.store.{}.svc.cluster.local:8080/", space.name);
        until(&url, || {
            let answer = space.curl("client", &[&url])?.with(200)?;
            ensure!(answer.body.contains(&format!("\"name\": \"{pod}\"")), "{}", answer.body);
            Ok(())
        })?;
    }
    until("the service's own name", || {
        space.curl("client", &["http://store:8080/"])?.with(200).map(drop)
    })
}

/// Capture is there before the proxy is: as the proxy's user, an init container passes it.
pub(super) fn init(turn: &Turn<'_>) -> Result<()> {
    let (space, outside) = (turn.space("pods", Mesh::Inside)?, turn.space("outside", Mesh::Outside)?);
    outside.service("server", 1, &[])?;
    space.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: fetches, labels: {{app: fetches}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  initContainers:\n  - name: fetch\n    image: IMAGE\n    \
         command: [curl, -sf, \"http://server.{}/\"]\n    securityContext: {{runAsUser: 1337}}\n  containers:\n  \
         - name: app\n    image: IMAGE\n    env: [{{name: SAMPLE_IMAGE, value: netshoot}}]\n",
        outside.name
    ))?;
    space.ready("pod/fetches")
}
