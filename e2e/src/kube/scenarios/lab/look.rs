//! What the notes look at on the way: the installation, the proxies' state and configuration.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::NAMESPACE;
use crate::kube::kubectl::Kubectl;
use crate::kube::run::Turn;
use crate::kube::scenarios::ingress::SERVICE;
use crate::kube::space::{Space, contains, curl_here, until};

/// After the installation.
pub(super) fn installation(turn: &Turn<'_>) -> Result<()> {
    for (args, expected) in [
        (&["version", "--remote=false"][..], "client version"),
        (&["x", "precheck"], "No issues found"),
        (&["profile", "list"], "default"),
        (&["verify-install"], "verified successfully"),
    ] {
        contains(&turn.meshctl(args, None)?, expected)?;
    }
    let (kubectl, system) = (&turn.world.kubectl, turn.world.system.as_str());
    let all = kubectl.run(&["get", "all,svc,ep,sa,cm,secret,pdb", "-n", system])?;
    for name in [
        "deployment.apps/istiod",
        "service/istio-ingressgateway",
        "configmap/istio",
        "secret/istio-ca-secret",
    ] {
        contains(&all, name)?;
    }
    contains(&kubectl.run(&["get", "crd"])?, "virtualservices.networking.istio.io")?;
    contains(
        &kubectl.run(&["get", "cm", "-n", system, "istio", "-o", "yaml"])?,
        "mesh: ",
    )?;
    let webhooks = kubectl.run(&["get", "mutatingwebhookconfiguration"])?;
    contains(&webhooks, "istio-sidecar-injector")?;
    let webhook = [
        "get",
        "mutatingwebhookconfiguration",
        "istio-sidecar-injector",
        "-o",
        "yaml",
    ];
    contains(&kubectl.run(&webhook)?, "istio-injection")?;
    Ok(())
}

/// Once the lab's Gateway is there: tables of the gateway's proxy and of webapp's.
pub(super) fn proxies(turn: &Turn<'_>, lab: &Space) -> Result<()> {
    let pod = |kubectl: &Kubectl, selector: &str, namespace: &str| -> Result<String> {
        let name = [
            "get",
            "pods",
            "-l",
            selector,
            "-o",
            "jsonpath={.items[0].metadata.name}",
        ];
        Ok(format!("{}.{namespace}", kubectl.run(&name)?))
    };
    let gateway = pod(&turn.system(), "istio=ingressgateway", &turn.world.system)?;
    let webapp = pod(&lab.kubectl, "app=webapp", NAMESPACE)?;
    for word in ["proxy-status", "ps"] {
        let status = turn.meshctl(&[word], None)?;
        contains(&status, &gateway)?;
        contains(&status, &webapp)?;
    }
    let to_webapp = "webapp.istioinaction.svc.cluster.local";
    let to_catalog = "catalog.istioinaction.svc.cluster.local";
    for (what, of_gateway, of_webapp) in [
        ("all", to_webapp, to_catalog),
        ("listener", "8080", "15006"),
        ("route", "webapp-virtualservice", to_catalog),
        ("cluster", to_webapp, to_catalog),
        ("endpoint", to_webapp, to_catalog),
        ("log", "active loggers", "active loggers"),
        ("secret", "ROOTCA", "ROOTCA"),
    ] {
        for (proxy, expected) in [(&gateway, of_gateway), (&webapp, of_webapp)] {
            let shown = turn.meshctl(&["proxy-config", what, proxy], None)?;
            contains(&shown, expected).with_context(|| format!("proxy-config {what} {proxy}"))?;
        }
    }
    turn.meshctl(&["analyze", "-n", NAMESPACE], None).map(drop)
}

/// The gateway's Service, after it was changed.
pub(super) fn gateway_service(turn: &Turn<'_>) -> Result<()> {
    let (kubectl, system) = (&turn.world.kubectl, turn.world.system.as_str());
    contains(&kubectl.run(&["get", "svc,ep", "-n", system, SERVICE])?, "80:30000/TCP")?;
    let described = kubectl.run(&["describe", "svc", "-n", system, SERVICE])?;
    contains(&described, "External Traffic Policy:")?;
    contains(&described, "Local")
}

/// `kubectl port-forward` to webapp, on a port that is free.
pub(super) fn port_forward(turn: &Turn<'_>) -> Result<()> {
    let args = ["port-forward", "-n", NAMESPACE, "deploy/webapp", ":8080"];
    let mut forward = turn.world.kubectl.command(&args);
    let mut forward = forward.stdout(Stdio::piped()).spawn().context("cannot start kubectl")?;
    let asked = (|| {
        let mut line = String::new();
        // It says more later, and ends if nobody listens.
        let mut said = BufReader::new(forward.stdout.take().context("kubectl says nothing")?);
        said.read_line(&mut line)?;
        // Forwarding from 127.0.0.1:PORT -> 8080
        let address = line
            .split_whitespace()
            .nth(2)
            .context("kubectl port-forward has ended")?;
        until("webapp through port-forward", || {
            curl_here(&[&format!("http://{address}/api/catalog/items/1")])?
                .with(200)
                .map(drop)
        })
    })();
    forward.kill()?;
    forward.wait()?;
    asked
}

/// The cluster with the lab's namespace as that of the context, in a copy of the file that names it: `kubectl config
/// set-context $(kubectl config current-context) --namespace=istioinaction`.
pub(super) fn in_context(turn: &Turn<'_>) -> Result<(Kubectl, tempfile::NamedTempFile)> {
    let config = turn.world.kubectl.run(&["config", "view", "--raw", "--flatten"])?;
    let mut copy = tempfile::NamedTempFile::new()?;
    copy.write_all(config.as_bytes())?;
    let kubectl = Kubectl::new(Some(copy.path().to_owned()));
    let context = kubectl.run(&["config", "current-context"])?;
    let namespace = format!("--namespace={NAMESPACE}");
    kubectl.run(&["config", "set-context", &context, &namespace])?;
    let pods = kubectl.run(&["get", "pod"])?;
    ensure!(pods.contains("catalog-"), "not in the lab's namespace:\n{pods}");
    Ok((kubectl, copy))
}
