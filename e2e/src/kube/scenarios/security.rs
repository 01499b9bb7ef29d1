//! Mutual TLS between pods, and what must go on working under it.

use anyhow::{Result, ensure};

use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, contains, until};

/// No plaintext into this namespace.
pub(super) fn strict_for(space: &Space) -> Result<()> {
    space.apply(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n",
    )
}

/// Who calls from inside is served and known; who calls from outside is not.
pub(super) fn strict(turn: &Turn<'_>) -> Result<()> {
    let (inside, outside) = (
        turn.space("inside", Mesh::Inside)?,
        turn.space("outside", Mesh::Outside)?,
    );
    inside.service("server", 1, &[])?;
    inside.client("client")?;
    outside.client("client")?;
    let url = format!("http://server.{}/", inside.name);
    for space in [&inside, &outside] {
        until("permissive", || space.curl("client", &[&url])?.with(200).map(drop))?;
    }
    strict_for(&inside)?;
    until("plaintext is refused", || {
        let answer = outside.curl("client", &[&url]);
        ensure!(answer.is_err(), "{answer:?}");
        Ok(())
    })?;
    inside.curl("client", &[&url])?.with(200)?;
    let stats = ["pilot-agent", "request", "GET", "/stats/prometheus"];
    let stats = inside.kubectl.exec("deploy/server", "istio-proxy", &stats)?;
    let principal = format!(
        "source_principal=\"spiffe://cluster.local/ns/{}/sa/default\"",
        inside.name
    );
    contains(&stats, &principal)?;
    contains(&stats, "connection_security_policy=\"mutual_tls\"")
}

/// The kubelet's probes come without a certificate, and reach the application all the same.
pub(super) fn probes(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("pods", Mesh::Inside)?;
    strict_for(&space)?;
    let probes = [
        ("http", "httpGet: {path: /health, port: 8080}"),
        ("tcp", "tcpSocket: {port: 8080}"),
        ("exec", "exec: {command: [curl, -sf, \"localhost:8080/health\"]}"),
    ];
    for (name, probe) in probes {
        space.apply(&pod(name, probe))?;
    }
    for (name, _) in probes {
        space.ready(&format!("pod/{name}"))?;
    }
    // A probe of a port on which nothing listens must fail, or the others would show nothing.
    for (name, probe) in [
        ("http-closed", "httpGet: {path: /health, port: 8081}"),
        ("http-wrong", "httpGet: {path: /nowhere/at/all, port: 15999}"),
        ("tcp-closed", "tcpSocket: {port: 8081}"),
    ] {
        space.apply(&pod(name, probe))?;
        until(&format!("{name}: the proxy is ready, the application is not"), || {
            let pods = space.kubectl.run(&["get", "pod", name, "--no-headers"])?;
            contains(&pods, "1/2")
        })?;
    }
    Ok(())
}

fn pod(name: &str, probe: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - name: app\n    image: IMAGE\n    env:\n    \
         - {{name: SAMPLE_IMAGE, value: \"nicholasjackson/fake-service:v0.17.0\"}}\n    \
         - {{name: LISTEN_ADDR, value: \"0.0.0.0:8080\"}}\n    \
         readinessProbe: {{{probe}, periodSeconds: 1, timeoutSeconds: 5}}\n    \
         startupProbe: {{{probe}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 120}}\n"
    )
}
