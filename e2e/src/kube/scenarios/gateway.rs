//! TLS at the ingress gateway, and the step from blue to green behind it.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::ingress::Ingress;
use crate::kube::run::Turn;
use crate::kube::space::{Mesh, Space, curl_here, until};

const HOST: &str = "shop.example";
const SECRET: &str = "e2e-shop-example";

/// A certificate by `credentialName`; plaintext is sent to HTTPS; a route changes without a failed request.
pub(super) fn https(turn: &Turn<'_>) -> Result<()> {
    let (space, system) = (turn.space("shop", Mesh::Inside)?, turn.system());
    space.service("blue", 1, &[])?;
    space.service("green", 1, &[])?;
    let pair = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    system.apply(&secret(&pair).to_string())?;
    let outcome = served(turn, &space, &pair.cert.pem());
    // It is in the mesh's namespace, where only gateways read it.
    system.run(&["delete", "secret", SECRET])?;
    outcome
}

fn secret(pair: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pair.cert.pem(), "tls.key": pair.signing_key.serialize_pem()},
    })
}

fn served(turn: &Turn<'_>, space: &Space, root: &str) -> Result<()> {
    let ingress = Ingress::open(turn)?;
    let mut roots = tempfile::NamedTempFile::new()?;
    roots.write_all(root.as_bytes())?;
    let roots = roots.path().display().to_string();
    space.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: shop}}\nspec:\n  selector: {{istio: ingressgateway}}\n  \
         servers:\n  - port: {{number: 80, name: http, protocol: HTTP}}\n    hosts: [{HOST}]\n    tls: {{httpsRedirect: true}}\n  \
         - port: {{number: 443, name: https, protocol: HTTPS}}\n    hosts: [{HOST}]\n    \
         tls: {{mode: SIMPLE, credentialName: {SECRET}}}\n"
    ))?;
    let route = |to: &str| {
        space.apply(&format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\nspec:\n  hosts: [{HOST}]\n  \
             gateways: [shop]\n  http: [{{route: [{{destination: {{host: {to}, port: {{number: 80}}}}}}]}}]\n"
        ))
    };
    let resolve = ingress.resolve(HOST);
    let url = format!("https://{HOST}:{}/", ingress.https);
    let ask = || curl_here(&["--cacert", &roots, "--resolve", &resolve, &url])?.with(200);
    let is = |name: &str| -> Result<()> {
        let body = ask()?.body;
        ensure!(body.contains(&format!("\"name\": \"{name}\"")), "{body}");
        Ok(())
    };
    route("blue")?;
    until("HTTPS by the certificate of the Secret", || is("blue"))?;
    let plain = ingress.url();
    let host = format!("Host: {HOST}");
    until("plaintext is sent to HTTPS", || {
        curl_here(&["-H", &host, &plain])?.with(301).map(drop)
    })?;
    // Nobody may fail on the way.
    route("green")?;
    for _ in 0..200 {
        ask().context("while the route changes")?;
    }
    until("all on green", || is("green"))
}
