//! The study notes' first week.

use anyhow::{Context as _, Result, ensure};

use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, contains, curl_here, until};

const NAMESPACE: &str = "istioinaction";
const GATEWAY: &str = "istio-ingressgateway";

/// From the label on the namespace to the canary, as written there.
pub(super) fn week1(turn: &Turn<'_>) -> Result<()> {
    let webhooks = turn.world.kubectl.run(&["get", "mutatingwebhookconfiguration"])?;
    contains(&webhooks, "istio-sidecar-injector")?;
    let lab = turn.space_named(NAMESPACE, Mesh::Inside)?;
    lab.apply_lab("services/catalog.yaml")?;
    lab.apply_lab("services/webapp.yaml")?;
    for name in ["catalog", "webapp"] {
        lab.rolled_out(&format!("deploy/{name}"))?;
        let pods = lab
            .kubectl
            .run(&["get", "pods", "-l", &format!("app={name}"), "--no-headers"])?;
        contains(&pods, "2/2")?;
        for (init, containers) in lab.containers(&format!("app={name}"))? {
            ensure!(init.contains(&"istio-init".to_owned()), "{name}: {init:?}");
            ensure!(containers.contains(&"istio-proxy".to_owned()), "{name}: {containers:?}");
        }
    }
    let outside = turn.space("outside", Mesh::Outside)?;
    outside.client("netshoot")?;
    contains(
        &outside.kubectl.run(&["get", "pod", "netshoot", "--no-headers"])?,
        "1/1",
    )?;
    for url in [
        "http://catalog.istioinaction/items/1",
        "http://webapp.istioinaction/api/catalog/items/1",
    ] {
        until(url, || {
            contains(&outside.curl("netshoot", &[url])?.with(200)?.body, "\"id\"")
        })?;
    }
    for asked in [
        &["curl", "-s", "localhost:15000/stats"][..],
        &["pilot-agent", "request", "GET", "/stats"],
    ] {
        contains(
            &lab.kubectl.exec("deploy/webapp", "istio-proxy", asked)?,
            "server.live: 1",
        )?;
    }
    let gateway = gateway(turn, &lab)?;
    chaos_and_retries(&lab, &gateway)?;
    canary(&lab)
}

/// The Gateway and its NodePort; the answer is where it listens.
fn gateway(turn: &Turn<'_>, lab: &Space) -> Result<String> {
    lab.apply_lab("ch2/ingress-gateway.yaml")?;
    let system = turn.system();
    let patch = r#"{"spec": {"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30000}]}}"#;
    system.run(&["patch", "svc", GATEWAY, "-p", patch])?;
    system.run(&[
        "patch",
        "svc",
        GATEWAY,
        "-p",
        r#"{"spec":{"externalTrafficPolicy": "Local"}}"#,
    ])?;
    let pods = system.get(&["pods", "-l", "istio=ingressgateway"])?;
    let node = pods["items"][0]["status"]["hostIP"]
        .as_str()
        .context("the gateway's pod has no node")?;
    let address = format!("http://{node}:30000");
    for path in ["/api/catalog", "/api/catalog/items/1"] {
        let url = format!("{address}{path}");
        until(&url, || curl_here(&[&url])?.with(200).map(drop))?;
    }
    let (gateways, routes) = (
        lab.kubectl.run(&["get", "gw,vs"])?,
        ["outfitters-gateway", "webapp-virtualservice"],
    );
    routes.iter().try_for_each(|name| contains(&gateways, name))?;
    Ok(address)
}

/// Half of the answers of the catalog are 500; retries hide most of them.
fn chaos_and_retries(lab: &Space, gateway: &str) -> Result<()> {
    lab.apply(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: catalog}\nspec:\n  hosts: [catalog]\n  \
         http: [{retries: {attempts: 0}, route: [{destination: {host: catalog}}]}]\n",
    )?;
    let url = format!("{gateway}/api/catalog");
    let good = |count: usize| -> Result<usize> {
        let mut good = 0;
        for _ in 0..count {
            good += usize::from(curl_here(&[&url])?.status == 200);
        }
        Ok(good)
    };
    blowup(lab, true)?;
    until("without retries about half fail", || {
        let without = good(40)?;
        ensure!((8..=32).contains(&without), "{without} of 40 without retries");
        Ok(())
    })?;
    lab.apply_lab("ch2/catalog-virtualservice.yaml")?;
    until("with retries few fail", || {
        let with = good(40)?;
        ensure!(with >= 32, "{with} of 40 with retries");
        Ok(())
    })?;
    blowup(lab, false)
}

fn blowup(lab: &Space, active: bool) -> Result<()> {
    let body = format!(r#"{{"active":{active},"type":"500","percentage":50}}"#);
    // As in the notes, from inside the application's container.
    let args = [
        "curl",
        "-s",
        "-X",
        "POST",
        "-H",
        "Content-Type: application/json",
        "-d",
        &body,
        "localhost:3000/blowup",
    ];
    lab.kubectl.exec("deploy/catalog", "catalog", &args).map(drop)
}

/// A second version for those who ask by a header, then all on the first.
fn canary(lab: &Space) -> Result<()> {
    for file in [
        "services/catalog-deployment-v2.yaml",
        "ch2/catalog-destinationrule.yaml",
        "ch2/catalog-virtualservice-all-v1.yaml",
    ] {
        lab.apply_lab(file)?;
    }
    lab.rolled_out("deploy/catalog-v2")?;
    lab.client("inside")?;
    let second = |args: &[&str]| -> Result<usize> {
        let mut second = 0;
        for _ in 0..20 {
            let answer = lab
                .curl("inside", &[args, &["http://catalog/items/1"]].concat())?
                .with(200)?;
            second += usize::from(answer.body.contains("imageUrl"));
        }
        Ok(second)
    };
    until("all on the first version", || {
        let second = second(&[])?;
        ensure!(second == 0, "{second} of 20 on the second");
        Ok(())
    })?;
    lab.apply_lab("ch2/catalog-virtualservice-dark-v2.yaml")?;
    until("those with the header on the second version", || {
        let (with, without) = (second(&["-H", "x-dark-launch: v2"])?, second(&[])?);
        ensure!(
            (with, without) == (20, 0),
            "with the header {with} of 20, without {without}"
        );
        Ok(())
    })
}
