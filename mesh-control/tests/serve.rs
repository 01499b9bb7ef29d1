//! The whole control plane over loopback: certificates by token and by certificate, pages, changes of the folder.

mod common;

use std::path::Path;
use std::time::SystemTime;

use common::{WAIT, get, get_with, options, until};
use mesh_api::ca::IstioCertificateRequest;
use mesh_api::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_control::serve::ca::token::Tokens;
use mesh_control::serve::{self, Running};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

fn token(dir: &Path, account: &str) -> String {
    let tokens = Tokens::open(&dir.join("ca")).expect("tokens");
    let account = account.parse().expect("an account");
    tokens.issue(&account, WAIT, SystemTime::now()).expect("token")
}

async fn connect(running: &Running, name: &str, identity: Option<Identity>) -> Channel {
    let roots = std::fs::read_to_string(&running.roots).expect("roots");
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(roots))
        .domain_name(name);
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", running.secure_grpc)).expect("address");
    endpoint
        .tls_config(tls)
        .expect("TLS")
        .connect()
        .await
        .expect("connects")
}

/// A chain for a new key, and the key.
async fn certificate(channel: Channel, token: Option<&str>, seconds: i64) -> Result<(Vec<String>, String), Status> {
    let key = rcgen::KeyPair::generate().expect("key");
    let csr = rcgen::CertificateParams::new(vec!["ignored.example".to_owned()]).expect("names");
    let mut request = Request::new(IstioCertificateRequest {
        csr: csr.serialize_request(&key).expect("csr").pem().expect("pem"),
        validity_duration: seconds,
        metadata: None,
    });
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("ascii");
        request.metadata_mut().insert("authorization", value);
    }
    let response = IstioCertificateServiceClient::new(channel)
        .create_certificate(request)
        .await?;
    Ok((response.into_inner().cert_chain, key.serialize_pem()))
}

#[tokio::test]
async fn certificates_by_token_then_by_certificate() {
    let dir = tempfile::tempdir().expect("dir");
    let running = serve::start(options(dir.path())).await.expect("starts");
    let token = token(dir.path(), "shop/web");

    for name in ["istiod.istio-system.svc", "localhost", "127.0.0.1"] {
        let channel = connect(&running, name, None).await;
        let status = certificate(channel, None, 0).await.expect_err("no proof");
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains("--service-account"), "{}", status.message());
    }

    let channel = connect(&running, "istiod.istio-system.svc", None).await;
    let status = certificate(channel.clone(), Some(&token), 91 * 24 * 3600)
        .await
        .expect_err("too long");
    assert_eq!(status.code(), Code::InvalidArgument);
    let (chain, key) = certificate(channel.clone(), Some(&token), 3600).await.expect("signed");
    assert_eq!(chain.len(), 2);

    // The certificate proves its owner from now on, without a token.
    let identity = Identity::from_pem(chain.concat(), key);
    let channel = connect(&running, "istiod.istio-system.svc", Some(identity)).await;
    let (chain, _) = certificate(channel.clone(), None, 0).await.expect("signed");
    let leaf = x509_parser::pem::parse_x509_pem(chain[0].as_bytes()).expect("pem").1;
    let leaf = leaf.parse_x509().expect("certificate");
    let names = leaf.subject_alternative_name().expect("readable").expect("names");
    assert_eq!(
        format!("{}", names.value.general_names[0]),
        "URI(spiffe://cluster.local/ns/shop/sa/web)"
    );

    // The same over the plaintext port, where only the token counts.
    let plain = Endpoint::from_shared(format!("http://{}", running.grpc)).expect("address");
    let plain = plain.connect().await.expect("connects");
    certificate(plain.clone(), Some(&token), 0).await.expect("signed");
    assert_eq!(
        certificate(plain, None, 0).await.expect_err("no proof").code(),
        Code::Unauthenticated
    );

    running.wait(std::future::ready(())).await.expect("stops");
}

#[tokio::test]
async fn a_token_that_does_not_hold_opens_no_debug_page() {
    let dir = tempfile::tempdir().expect("dir");
    let running = serve::start(options(dir.path())).await.expect("starts");
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    for (path, head, status) in [
        ("/debug/syncz", String::new(), 200),
        ("/debug/syncz", bearer(&token(dir.path(), "shop/web")), 200),
        ("/debug/syncz", bearer("none"), 401),
        ("/debug/configz", "authorization: Basic x\r\n".to_owned(), 401),
        // What is open to everybody asks for nothing.
        ("/version", bearer("none"), 200),
    ] {
        let page = get_with(running.monitoring, path, &head).await;
        assert!(page.starts_with(&format!("HTTP/1.1 {status}")), "{path} {head}: {page}");
    }
    running.wait(std::future::ready(())).await.expect("stops");
}

#[tokio::test]
async fn the_folder_is_followed_and_findings_come_and_go() {
    let dir = tempfile::tempdir().expect("dir");
    let options = options(dir.path());
    let source = dir.path().join("mesh");
    let put = |name: &str, text: &str| std::fs::write(source.join(name), text).expect("written");
    put(
        "namespace.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    );
    let running = serve::start(options).await.expect("starts");
    let pages = running.monitoring;

    assert!(get(pages, "/ready").await.starts_with("HTTP/1.1 200"));
    assert!(get(pages, "/version").await.contains(env!("CARGO_PKG_VERSION")));
    assert!(get(pages, "/nothing").await.starts_with("HTTP/1.1 404"));
    assert!(
        get(pages, "/debug/config_dump?proxyID=none.x")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(get(pages, "/debug/configz").await.contains("\"Namespace\""));

    put(
        "gateway.yaml",
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {servres: []}\n",
    );
    let page = until(pages, "/debug/findingsz", |p| p.contains("gateway.yaml")).await;
    assert!(
        page.contains("gateway.yaml:4: Gateway default/gw: spec.servres: unknown field"),
        "{page}"
    );
    put(
        "gateway.yaml",
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  selector: {istio: x}\n  \
         servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]\n",
    );
    until(pages, "/debug/findingsz", |p| !p.contains("gateway.yaml")).await;
    let configz = get(pages, "/debug/configz").await;
    assert!(
        configz.contains("\"Gateway\"") && configz.contains("\"servers\""),
        "{configz}"
    );

    put(
        "entry.yaml",
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out}\nspec:\n  hosts: [out.example]\n  \
         resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints: [{address: 192.0.2.7}]\n",
    );
    let services = until(pages, "/debug/registryz", |p| p.contains("out.example")).await;
    assert!(services.contains("\"protocol\": \"HTTP\""), "{services}");
    let endpoints = get(pages, "/debug/endpointz").await;
    assert!(
        endpoints.contains("\"svc\": \"out.example:http\"") && endpoints.contains("192.0.2.7"),
        "{endpoints}"
    );

    // Files are told by what they hold: a change is read when its hash is there, wrong or right.
    let sourcez = get(pages, "/debug/sourcez").await;
    assert!(
        sourcez.contains("gateway.yaml") && sourcez.contains("\"snapshot\": 3"),
        "{sourcez}"
    );
    put("gateway.yaml", "kind: [\n");
    let sha256 = "7c9007b5053b21f0622b10beceaa8178315485a13758daa31961d8d238d5a3d1";
    until(pages, "/debug/sourcez", |p| p.contains(sha256)).await;
    running.wait(std::future::ready(())).await.expect("stops");
}
