//! The book's chapter: product-composite calls product, in a namespace whose pods are injected by hand.

use std::io::Write as _;

use anyhow::{Result, ensure};
use tempfile::NamedTempFile;

use super::canary::two_versions;
use super::ingress::Ingress;
use crate::kube::run::Turn;
use crate::kube::space::{LABEL, Mesh, Space, contains, curl_here, deployment, report, service, until};

const HOST: &str = "minikube.me";
/// The Secret that the gateway has as files.
const CERTIFICATE: &str = "istio-ingressgateway-certs";
/// From which product is called.
const CALLER: &str = "deploy/product-composite";

pub(super) fn chapter(turn: &Turn<'_>) -> Result<()> {
    let space = turn.space("hands-on", Mesh::Outside)?;
    injected_by_hand(turn, &space)?;
    certificate(turn)?.serves(&space)?;
    faults(&space)?;
    blue_green(&space)
}

/// `kubectl get deployment … -o yaml | istioctl kube-inject -f - | kubectl apply -f -`, of Deployments that run without.
fn injected_by_hand(turn: &Turn<'_>, space: &Space) -> Result<()> {
    space.apply(&(service("product") + &two_versions("product")))?;
    let upstreams = [("UPSTREAM_URIS", "http://product/")];
    space.apply(&deployment("product-composite", 1, &upstreams))?;
    let names = ["product-v1", "product-v2", "product-composite"];
    // The API server refuses what has changed since it was read, as a Deployment that starts does all the time.
    until("injected by hand", || {
        let yaml = space
            .kubectl
            .run(&[&["get", "deployment", "-o", "yaml"], &names[..]].concat())?;
        let injected = turn.meshctl(&["kube-inject", "-f", "-"], Some(&yaml))?;
        space.kubectl.apply(&injected)
    })?;
    for name in names {
        space.rolled_out(&format!("deploy/{name}"))?;
    }
    until("pods with two containers each", || {
        let pods = space.kubectl.run(&["get", "pods", "--no-headers"])?;
        let two = pods.lines().filter(|line| line.contains(" 2/2 ")).count();
        ensure!(two == names.len() && pods.lines().count() == two, "{pods}");
        Ok(())
    })
}

/// A certificate as a Secret of the mesh's namespace, which goes when this does.
struct Certificate<'a> {
    turn: &'a Turn<'a>,
    /// What clients trust.
    file: NamedTempFile,
}

fn certificate<'a>(turn: &'a Turn<'a>) -> Result<Certificate<'a>> {
    let system = turn.system();
    let there = system.run(&["get", "secret", CERTIFICATE, "--ignore-not-found", "-o", "name"])?;
    if !there.is_empty() {
        ensure!(
            system.get(&["secret", CERTIFICATE])?["metadata"]["labels"][LABEL] == turn.name,
            "Secret {CERTIFICATE} is there and was not made by this scenario; take another cluster"
        );
        system.run(&["delete", "secret", CERTIFICATE])?;
    }
    let pair = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let (mut file, mut key) = (NamedTempFile::new()?, NamedTempFile::new()?);
    file.write_all(pair.cert.pem().as_bytes())?;
    key.write_all(pair.signing_key.serialize_pem().as_bytes())?;
    let path = |file: &NamedTempFile| file.path().display().to_string();
    let create = ["create", "secret", "tls", CERTIFICATE];
    system.run(&[&create[..], &["--key", &path(&key), "--cert", &path(&file)]].concat())?;
    let label = format!("{LABEL}={}", turn.name);
    let certificate = Certificate { turn, file };
    system.run(&["label", "secret", CERTIFICATE, &label])?;
    Ok(certificate)
}

impl Drop for Certificate<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.turn.system().run(&["delete", "secret", CERTIFICATE]) {
            println!("  Secret {CERTIFICATE} stays: {error:#}");
        }
    }
}

impl Certificate<'_> {
    /// The gateway reads files that its pod has all along, though the Secret is made only now.
    fn serves(self, space: &Space) -> Result<()> {
        let turn = self.turn;
        // A kubelet looks at Secrets once a minute, or when a pod changes.
        let now = format!("e2e.ferromesh/looked={}", std::process::id());
        let annotate = ["annotate", "pod", "-l", "istio=ingressgateway", "--overwrite"];
        turn.system().run(&[&annotate[..], &[&now]].concat())?;
        space.apply(&format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: Gateway\nmetadata: {{name: hands-on-gw}}\nspec:\n  \
             selector: {{istio: ingressgateway}}\n  servers:\n  - hosts: [{HOST}]\n    \
             port: {{number: 443, name: https, protocol: HTTPS}}\n    tls:\n      mode: SIMPLE\n      \
             serverCertificate: /etc/istio/ingressgateway-certs/tls.crt\n      \
             privateKey: /etc/istio/ingressgateway-certs/tls.key\n---\n\
             apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: product-composite-vs}}\nspec:\n  \
             hosts: [{HOST}]\n  gateways: [hands-on-gw]\n  http:\n  - match: [{{uri: {{prefix: /product-composite}}}}]\n    \
             route: [{{destination: {{port: {{number: 80}}, host: product-composite}}}}]\n"
        ))?;
        let ingress = Ingress::open(turn)?;
        let (roots, resolve) = (self.file.path().display().to_string(), ingress.resolve(HOST));
        let ask = |path: &str| {
            let url = format!("https://{HOST}:{}{path}", ingress.https);
            curl_here(&["--cacert", &roots, "--resolve", &resolve, &url])
        };
        until("HTTPS by the certificate in files", || {
            let body = ask("/product-composite/1")?.with(200)?.body;
            contains(&body, "\"name\": \"product-composite\"")
        })?;
        // Only what the route names.
        ask("/other")?.with(404).map(drop)
    }
}

fn virtual_service(space: &Space, http: &str) -> Result<()> {
    space.apply(&format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: product-vs}}\nspec:\n  \
         hosts:\n  - product\n  http:\n{http}"
    ))
}

/// Nobody is slow and nobody fails, but for those who call.
fn faults(space: &Space) -> Result<()> {
    const ROUTE: &str = "  - route:\n    - destination: {host: product}\n    fault:\n";
    virtual_service(
        space,
        &format!("{ROUTE}      abort:\n        httpStatus: 500\n        percent: 20\n"),
    )?;
    until("one in five is aborted", || {
        let report = space.load(CALLER, "http://product/ --requests 500")?;
        let aborted = report.by_status.get(&500).copied().unwrap_or_default();
        // Of 500, one in five is 100; 45 off are five standard deviations.
        ensure!((55..=145).contains(&aborted) && aborted + report.ok == 500, "{report}");
        Ok(())
    })?;
    virtual_service(
        space,
        &format!("{ROUTE}      delay:\n        fixedDelay: 3s\n        percent: 100\n"),
    )?;
    until("all wait for three seconds", || {
        let report = space.load(CALLER, "http://product/ --requests 4 --concurrency 4")?;
        ensure!(report.ok == 4 && report.latency_ms.p50 >= 3000.0, "{report}");
        Ok(())
    })
}

/// Testers by a header first, then everybody, then everybody back, while others call.
fn blue_green(space: &Space) -> Result<()> {
    space.apply(
        "apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\nmetadata: {name: product-dr}\nspec:\n  host: product\n  \
         subsets:\n  - name: old\n    labels: {version: v1}\n  - name: new\n    labels: {version: v2}\n",
    )?;
    virtual_service(
        space,
        "  - match:\n    - headers: {X-group: {exact: test}}\n    route:\n    - destination: {host: product, subset: new}\n  \
         - route:\n    - destination: {host: product, subset: old}\n      weight: 100\n    \
         - destination: {host: product, subset: new}\n      weight: 0\n",
    )?;
    let all_on = |name: &str, header: &str| {
        until(&format!("all on {name} {header}"), || {
            let line = format!("http://product/ --requests 50 --count-by json:/name {header}");
            let report = space.load(CALLER, &line)?;
            ensure!(
                report.by_value.get(name) == Some(&50),
                "{report}; {:?}",
                report.by_value
            );
            Ok(())
        })
    };
    all_on("product-v1", "")?;
    all_on("product-v2", "-H X-group:test")?;
    let beside = space.load_beside(CALLER, "http://product/ --rate 50 --concurrency 32")?;
    let moved = [(0, 100, "product-v2"), (100, 0, "product-v1")]
        .iter()
        .try_for_each(|(old, new, name)| {
            let weight = |index: usize, weight: i32| {
                format!(r#"{{"op": "add", "path": "/spec/http/1/route/{index}/weight", "value": {weight}}}"#)
            };
            let patch = format!("[{}, {}]", weight(0, *old), weight(1, *new));
            let args = ["patch", "virtualservice", "product-vs", "--type=json", "-p", &patch];
            space.kubectl.run(&args)?;
            all_on(name, "")
        });
    let report = report(beside)?;
    moved?;
    ensure!(
        report.failed() == 0 && report.sent > 0,
        "from blue to green and back: {report}"
    );
    Ok(())
}
