//! The study notes' first week.

mod look;

use anyhow::{Result, ensure};

use super::ingress::Ingress;
use crate::kube::kubectl::Kubectl;
use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, contains, curl_here, until};

const NAMESPACE: &str = "istioinaction";

/// From the label on the namespace to the canary, as written there.
pub(super) fn week1(turn: &Turn<'_>) -> Result<()> {
    look::installation(turn)?;
    let lab = turn.space_named(NAMESPACE, Mesh::Inside)?;
    let namespaces = turn.world.kubectl.run(&["get", "ns", "--show-labels"])?;
    contains(&namespaces, "istio-injection=enabled")?;
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
    outside.apply(NETSHOOT)?;
    outside.ready("pod/netshoot")?;
    contains(
        &outside.kubectl.run(&["get", "pod", "netshoot", "--no-headers"])?,
        "1/1",
    )?;
    for url in [
        "http://catalog.istioinaction/items/1",
        "http://webapp.istioinaction/api/catalog/items/1",
    ] {
        until(url, || {
            let exec = ["exec", "-it", "netshoot", "--", "curl", "-s", url];
            contains(&outside.kubectl.run(&exec)?, "\"id\"")
        })?;
    }
    look::port_forward(turn)?;
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
    look::proxies(turn, &lab)?;
    chaos_and_retries(turn, &lab, &gateway)?;
    canary(&lab)
}

/// As the notes have it.
const NETSHOOT: &str = "apiVersion: v1
kind: Pod
metadata:
  name: netshoot
spec:
  containers:
  - name: netshoot
    image: IMAGE
    command: [\"tail\"]
    args: [\"-f\", \"/dev/null\"]
  terminationGracePeriodSeconds: 0
";

/// The Gateway and its NodePort; the answer is where it listens.
fn gateway(turn: &Turn<'_>, lab: &Space) -> Result<String> {
    lab.apply_lab("ch2/ingress-gateway.yaml")?;
    let address = Ingress::open(turn)?.url();
    look::gateway_service(turn)?;
    for path in ["/api/catalog", "/api/catalog/items/1"] {
        let url = format!("{address}{path}");
        until(&url, || curl_here(&[&url])?.with(200).map(drop))?;
        curl_here(&[&url, "-I"])?.with(200)?;
    }
    let (gateways, routes) = (
        turn.world.kubectl.run(&["get", "gw,vs", "-n", NAMESPACE])?,
        ["outfitters-gateway", "webapp-virtualservice"],
    );
    routes.iter().try_for_each(|name| contains(&gateways, name))?;
    Ok(address)
}

/// All answers of the catalog are 500, then half of them; retries hide most of these.
fn chaos_and_retries(turn: &Turn<'_>, lab: &Space, gateway: &str) -> Result<()> {
    let (kubectl, _config) = look::in_context(turn)?;
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
    blowup(&kubectl, r#"{"active": true, "type": "500", "percentage": 100}"#)?;
    until("all fail", || {
        let all = good(5)?;
        ensure!(all == 0, "{all} of 5 are good");
        Ok(())
    })?;
    blowup(&kubectl, r#"{"active": true, "type": "500", "percentage": 50}"#)?;
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
    contains(
        &turn.world.kubectl.run(&["get", "vs", "-n", NAMESPACE])?,
        "[\"catalog\"]",
    )?;
    blowup(&kubectl, r#"{"active": false, "type": "500"}"#)
}

/// What the notes' `chaos.sh` does: to each pod of the catalog, from inside its container.
fn blowup(kubectl: &Kubectl, body: &str) -> Result<()> {
    let pods = kubectl.run(&["get", "pod"])?;
    let pods = pods.lines().filter_map(|line| line.split_whitespace().next());
    for pod in pods.filter(|pod| pod.starts_with("catalog")) {
        let curl = ["curl", "-X", "POST", "-H", "Content-Type: application/json", "-d", body];
        let exec = ["exec", "-c", "catalog", "-it", pod, "--"];
        kubectl.run(&[&exec[..], &curl, &["localhost:3000/blowup"]].concat())?;
    }
    Ok(())
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
