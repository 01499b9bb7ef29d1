use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_api::names::SpiffeId;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::Request;
use x509_parser::prelude::*;

use super::authority::{Authority, BACKDATE, DEFAULT_TTL, MAX_TTL};
use super::caller::{Callers, Proofs, identity_of};
use super::token::{ServiceAccount, Tokens};

fn web() -> SpiffeId {
    SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/web").expect("an identity")
}

fn csr(names: &[&str]) -> String {
    let key = KeyPair::generate().expect("key");
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let params = CertificateParams::new(names).expect("names");
    params.serialize_request(&key).expect("csr").pem().expect("pem")
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("certificate")
}

fn seconds(t: SystemTime) -> i64 {
    i64::try_from(t.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()).expect("fits")
}

#[test]
fn a_leaf_names_the_caller_and_nothing_else() {
    let dir = tempfile::tempdir().expect("dir");
    let authority = Authority::open(dir.path(), "cluster.local").expect("opens");
    let now = SystemTime::now();
    let chain = authority
        .sign(&csr(&["evil.example", "10.0.0.1"]), &web(), None, now)
        .expect("signs");
    assert_eq!(chain.len(), 2, "leaf and root");
    assert!(chain.iter().all(|pem| pem.ends_with("-----END CERTIFICATE-----\n")));

    let leaf = der(&chain[0]);
    let (_, parsed) = parse_x509_certificate(&leaf).expect("parses");
    let san = parsed.subject_alternative_name().expect("readable").expect("present");
    assert!(san.critical, "the subject is empty");
    assert_eq!(
        san.value.general_names,
        [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]
    );
    assert_eq!(identity_of(&leaf), Ok(web()));

    assert_eq!(parsed.validity().not_before.timestamp(), seconds(now - BACKDATE));
    assert_eq!(parsed.validity().not_after.timestamp(), seconds(now + DEFAULT_TTL));
    let usage = parsed.key_usage().expect("readable").expect("present").value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = parsed.extended_key_usage().expect("readable").expect("present").value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert!(!parsed.is_ca());

    let root = der(&chain[1]);
    let (_, root) = parse_x509_certificate(&root).expect("parses");
    parsed
        .verify_signature(Some(root.public_key()))
        .expect("signed by the root");
}

#[test]
fn the_lifetime_is_the_requested_one_up_to_ninety_days() {
    let dir = tempfile::tempdir().expect("dir");
    let authority = Authority::open(dir.path(), "cluster.local").expect("opens");
    let now = SystemTime::now();
    let chain = authority.sign(&csr(&[]), &web(), Some(MAX_TTL), now).expect("signs");
    let leaf = der(&chain[0]);
    let (_, parsed) = parse_x509_certificate(&leaf).expect("parses");
    assert_eq!(parsed.validity().not_after.timestamp(), seconds(now + MAX_TTL));
    let error = authority
        .sign(&csr(&[]), &web(), Some(MAX_TTL + Duration::from_secs(1)), now)
        .expect_err("too long");
    assert!(error.to_string().contains("90 days"), "{error}");
}

#[test]
fn a_request_that_its_key_did_not_sign_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let authority = Authority::open(dir.path(), "cluster.local").expect("opens");
    let pem = csr(&["a.example"]);
    let request = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).expect("der");
    let mut bytes = request.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let forged = pem_block(&bytes);
    for bad in [
        forged.as_str(),
        "",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ] {
        let error = authority
            .sign(bad, &web(), None, SystemTime::now())
            .expect_err("refused");
        assert!(
            error.to_string().starts_with("certificate signing request: "),
            "{error}"
        );
    }
}

fn pem_block(bytes: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn the_root_stays_over_a_restart_and_keys_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("dir");
    let first = Authority::open(dir.path(), "cluster.local").expect("opens");
    let again = Authority::open(dir.path(), "cluster.local").expect("opens again");
    assert_eq!(first.roots(), again.roots());
    Tokens::open(dir.path()).expect("a key for tokens");
    for key in ["ca-key.pem", "token-key.pem"] {
        let mode = std::fs::metadata(dir.path().join(key)).expect(key).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let bundle = std::fs::read_to_string(first.bundle_file()).expect("bundle");
    assert_eq!(der(&bundle), first.roots()[0]);
}

#[test]
fn own_cacerts_with_an_intermediate_give_leaf_intermediate_root() {
    let dir = tempfile::tempdir().expect("dir");
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        (params, KeyPair::generate().expect("key"))
    };
    let (root_params, root_key) = ca("root");
    let root = root_params.self_signed(&root_key).expect("root");
    let (sub_params, sub_key) = ca("intermediate");
    let issuer = rcgen::Issuer::from_params(&root_params, &root_key);
    let sub = sub_params.signed_by(&sub_key, &issuer).expect("intermediate");
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("writes");
    put("ca-cert.pem", &sub.pem());
    put("ca-key.pem", &sub_key.serialize_pem());
    put("root-cert.pem", &root.pem());
    // As Istio's own make files write it: the signing certificate first, the root at the end.
    put("cert-chain.pem", &format!("{}{}", sub.pem(), root.pem()));
    let (extra_params, extra_key) = ca("next root");
    let extra = extra_params.self_signed(&extra_key).expect("root");
    put("extra-roots.pem", &extra.pem());

    let authority = Authority::open(dir.path(), "cluster.local").expect("opens");
    let chain = authority
        .sign(&csr(&[]), &web(), None, SystemTime::now())
        .expect("signs");
    let chain: Vec<_> = chain.iter().map(|pem| der(pem)).collect();
    assert_eq!(chain[1..], [sub.der().clone(), root.der().clone()]);
    let (_, leaf) = parse_x509_certificate(&chain[0]).expect("parses");
    let (_, signer) = parse_x509_certificate(&chain[1]).expect("parses");
    leaf.verify_signature(Some(signer.public_key()))
        .expect("signed by the intermediate");
    assert_eq!(authority.roots(), [root.der().clone(), extra.der().clone()]);

    let (further_params, further_key) = ca("root of another mesh");
    let further = further_params.self_signed(&further_key).expect("root");
    let with = Authority::open_with(dir.path(), "cluster.local", &[further.pem()]).expect("opens");
    assert_eq!(with.roots().last(), Some(further.der()));
    let bundle = std::fs::read_to_string(with.bundle_file()).expect("bundle");
    assert_eq!(bundle, format!("{}{}{}", root.pem(), extra.pem(), further.pem()));

    put("ca-key.pem", &extra_key.serialize_pem());
    let error = Authority::open(dir.path(), "cluster.local").expect_err("the key is another's");
    assert!(format!("{error:#}").contains("do not belong together"), "{error:#}");
}

fn account() -> ServiceAccount {
    "shop/web".parse().expect("an account")
}

fn bearer(token: &str) -> Request<()> {
    let mut request = Request::new(());
    let value = format!("Bearer {token}").parse().expect("ascii");
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn a_token_proves_its_service_account() {
    let dir = tempfile::tempdir().expect("dir");
    let tokens = std::sync::Arc::new(Tokens::open(dir.path()).expect("opens"));
    let callers = Callers::new(Proofs::Own(tokens.clone()), "cluster.local");
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);

    let token = tokens.issue(&account(), hour, now).expect("token");
    let caller = callers.prove(&bearer(&token)).await.expect("proven").expect("a caller");
    assert_eq!((caller.id, caller.proof), (web(), "token"));
    let nobody = callers.prove(&Request::new(())).await;
    assert_eq!(nobody.expect("no proof is no error"), None);

    // Another process with the same folder trusts it too.
    Tokens::open(dir.path())
        .expect("opens")
        .check(&token)
        .expect("the same key");

    let elsewhere = tempfile::tempdir().expect("dir");
    let foreign = Tokens::open(elsewhere.path()).expect("opens");
    let cases = [
        (
            tokens.issue_for(&account(), "other", hour, now).expect("token"),
            "another audience",
        ),
        (
            tokens.issue(&account(), hour, now - 3 * hour).expect("token"),
            "expired",
        ),
        (
            foreign.issue(&account(), hour, now).expect("token"),
            "not signed by this control plane's key",
        ),
        ("x.y.z".to_owned(), "malformed"),
        (String::new(), "malformed"),
    ];
    for (token, reason) in cases {
        let status = callers.prove(&bearer(&token)).await.expect_err(reason);
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        assert!(status.message().contains(reason), "{reason}: {}", status.message());
    }
}

#[test]
fn service_accounts_are_checked_before_a_token_is_written() {
    for bad in ["web", "shop/", "/web", "shop/we b", "Shop/web", "a/b/c", "shop/-web"] {
        assert!(bad.parse::<ServiceAccount>().is_err(), "{bad}");
    }
}

#[test]
fn nothing_is_signed_after_the_end_of_the_signing_certificate() {
    let dir = tempfile::tempdir().expect("dir");
    let authority = Authority::open(dir.path(), "cluster.local").expect("opens");
    let error = authority
        .sign(&csr(&[]), &web(), None, authority.not_after())
        .expect_err("the leaf would have ended before it began");
    assert!(error.to_string().contains("has ended"), "{error}");
}
