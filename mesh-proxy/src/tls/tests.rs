use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;
use crate::listener::TlsInfo;
use crate::snapshot::{ClientTls, ServerTls};
use crate::testing::{TestCa, Valid, alpn, client_tls, common, server_tls, soon, uri_exact, uri_prefix};

/// What either side got out of a handshake: the server's facts with the ALPN, and the client's result.
async fn handshake(
    client: &ClientTls,
    server: &ServerTls,
) -> (Result<(TlsInfo, Option<Vec<u8>>), TlsError>, Result<Vec<u8>, TlsError>) {
    let (ours, theirs) = duplex(64 * 1024);
    let serving = async {
        let (mut stream, info) = accept(theirs, None, server).await?;
        let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let _ = stream.write_all(b"hello").await;
        let _ = stream.shutdown().await;
        Ok((info, chosen))
    };
    let asking = async {
        let mut stream = connect(ours, client, &client.sni, &client.alpn).await?;
        let mut answer = Vec::new();
        // In TLS 1.3 a client learns only with its first read that the server has refused it.
        stream
            .read_to_end(&mut answer)
            .await
            .map_err(|e| TlsError::Handshake(e.to_string()))?;
        Ok(answer)
    };
    soon("handshake", async { tokio::join!(serving, asking) }).await
}

fn mesh_server(ca: &TestCa, trust_domain: &str) -> Arc<ServerTls> {
    let mut parts = common(Some(&ca.workload("shop", "catalog")), Some(ca.bundle()));
    parts.sans = vec![uri_prefix(&format!("spiffe://{trust_domain}/"))];
    parts.alpn = alpn(&["h2", "http/1.1"]);
    server_tls(parts, true)
}

#[tokio::test]
async fn workloads_prove_themselves_to_each_other() {
    let ca = TestCa::new("root");
    let mut parts = common(Some(&ca.workload("shop", "web")), Some(ca.bundle()));
    parts.sans = vec![uri_exact("spiffe://cluster.local/ns/shop/sa/catalog")];
    parts.alpn = alpn(&["istio-http/1.1", "http/1.1", "h2"]);
    let client = client_tls(parts, "outbound_.80_.v1_.catalog.shop.svc.cluster.local");

    let (served, asked) = handshake(&client, &mesh_server(&ca, "cluster.local")).await;
    let (info, chosen) = served.expect("the client is trusted");
    assert_eq!(asked.expect("the server is trusted"), b"hello");
    assert_eq!(info.peer_uri.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/web"));
    assert_eq!(
        info.local_uri.as_deref(),
        Some("spiffe://cluster.local/ns/shop/sa/catalog")
    );
    assert_eq!(info.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(info.peer_subject.as_deref(), Some(r"CN=leaf\, of a test,O=Tests"));
    assert!(info.mutual);
    assert_eq!(
        chosen.as_deref(),
        Some(&b"h2"[..]),
        "the server's order of preference decides"
    );
}

#[tokio::test]
async fn without_a_common_protocol_the_handshake_goes_on_without_alpn() {
    let ca = TestCa::new("root");
    let mut parts = common(Some(&ca.workload("shop", "web")), Some(ca.bundle()));
    parts.alpn = alpn(&["istio"]);
    let (served, asked) = handshake(&client_tls(parts, ""), &mesh_server(&ca, "cluster.local")).await;
    assert_eq!(served.expect("no alert").1, None);
    assert!(asked.is_ok());
}

#[tokio::test]
async fn a_client_of_another_trust_domain_is_refused() {
    let ca = TestCa::new("root");
    let client = client_tls(common(Some(&ca.workload("shop", "web")), Some(ca.bundle())), "");
    let (served, asked) = handshake(&client, &mesh_server(&ca, "prod.example")).await;
    let TlsError::Refused(text) = served.expect_err("another trust domain") else {
        panic!("not by the verifier");
    };
    assert!(
        text.contains("spiffe://cluster.local/ns/shop/sa/web"),
        "what was presented: {text}"
    );
    assert!(text.contains("spiffe://prod.example/*"), "what was expected: {text}");
    assert!(asked.is_err());
}

#[tokio::test]
async fn a_client_of_another_root_is_refused() {
    let (ca, other) = (TestCa::new("root"), TestCa::new("other root"));
    let client = client_tls(common(Some(&other.workload("shop", "web")), Some(ca.bundle())), "");
    let (served, _) = handshake(&client, &mesh_server(&ca, "cluster.local")).await;
    let text = served.expect_err("another root").to_string();
    assert!(text.contains("none of our roots (CN=root,O=Tests)"), "{text}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let ca = TestCa::new("root");
    let stale = ca.leaf(&["spiffe://cluster.local/ns/shop/sa/stale"], Valid::Past);

    let client = client_tls(common(Some(&stale), Some(ca.bundle())), "");
    let (served, asked) = handshake(&client, &mesh_server(&ca, "cluster.local")).await;
    let text = served.expect_err("expired").to_string();
    assert!(text.contains("sa/stale") && text.contains("expired"), "{text}");
    let text = asked.expect_err("refused").to_string().to_lowercase();
    assert!(text.contains("expired"), "the alert tells the client: {text}");

    let server = server_tls(common(Some(&stale), None), false);
    let client = client_tls(common(None, Some(ca.bundle())), "");
    let (_, asked) = handshake(&client, &server).await;
    let text = asked.expect_err("expired").to_string();
    assert!(text.contains("sa/stale") && text.contains("expired"), "{text}");
}

#[tokio::test]
async fn a_server_with_another_identity_is_refused() {
    let ca = TestCa::new("root");
    let mut parts = common(Some(&ca.workload("shop", "web")), Some(ca.bundle()));
    parts.sans = vec![uri_exact("spiffe://cluster.local/ns/shop/sa/payment")];
    let (_, asked) = handshake(&client_tls(parts, ""), &mesh_server(&ca, "cluster.local")).await;
    let text = asked.expect_err("not the expected one").to_string();
    assert!(text.contains("sa/catalog") && text.contains("sa/payment"), "{text}");
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_may_be_optional() {
    let ca = TestCa::new("root");
    let stranger = client_tls(common(None, Some(ca.bundle())), "");
    let (served, _) = handshake(&stranger, &mesh_server(&ca, "cluster.local")).await;
    assert_eq!(served.expect_err("mutual TLS"), TlsError::NoCertificate);

    let optional = server_tls(common(Some(&ca.workload("shop", "catalog")), Some(ca.bundle())), false);
    let (served, asked) = handshake(&stranger, &optional).await;
    let (info, _) = served.expect("optional");
    assert!(!info.mutual && info.peer_uri.is_none());
    assert!(asked.is_ok());
}

#[tokio::test]
async fn versions_are_bounded() {
    let ca = TestCa::new("root");
    let mut parts = common(Some(&ca.workload("shop", "catalog")), None);
    parts.max_version = TlsVersion::V1_2;
    let server = server_tls(parts, false);
    let (served, _) = handshake(&client_tls(common(None, Some(ca.bundle())), ""), &server).await;
    assert_eq!(served.expect("TLS 1.2").0.version.as_deref(), Some("TLSv1.2"));

    let mut parts = common(None, Some(ca.bundle()));
    parts.min_version = TlsVersion::V1_3;
    let (served, asked) = handshake(&client_tls(parts, ""), &server).await;
    assert!(served.is_err() && asked.is_err());
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_while_a_secret_is_missing() {
    let waiting = ClientTls {
        config: None,
        secrets: vec!["default".into(), "ROOTCA".into()],
        sni: "".into(),
        alpn: Vec::new(),
        fingerprint: 0,
    };
    let (ours, mut theirs) = duplex(1024);
    let error = connect(ours, &waiting, "", &[]).await.expect_err("no secret");
    assert!(error.to_string().contains("default, ROOTCA"), "{error}");
    let mut sent = Vec::new();
    theirs.read_to_end(&mut sent).await.expect("closed");
    assert!(sent.is_empty());
}

#[tokio::test]
async fn a_self_signed_certificate_may_be_trusted_itself() {
    let (own, other) = (TestCa::new("self-signed"), TestCa::new("self-signed"));
    let server = server_tls(common(Some(&own.itself()), None), false);
    let (_, asked) = handshake(&client_tls(common(None, Some(own.bundle())), ""), &server).await;
    assert_eq!(asked.expect("the very certificate that is trusted"), b"hello");
    let (_, asked) = handshake(&client_tls(common(None, Some(other.bundle())), ""), &server).await;
    assert!(asked.is_err(), "one of the same name is not");
}

/// A server that does not look whether its key fits.
fn unchecked(identity: &Identity, newest: TlsVersion) -> Arc<ServerTls> {
    let key = provider()
        .key_provider
        .load_private_key(identity.key.clone_key())
        .expect("a key");
    let pair = rustls::sign::CertifiedKey::new(identity.chain.clone(), key);
    let version = match newest {
        TlsVersion::V1_2 => &rustls::version::TLS12,
        TlsVersion::V1_3 => &rustls::version::TLS13,
    };
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    Arc::new(ServerTls {
        config: Some(Arc::new(config)),
        secrets: Vec::new(),
        require_client_certificate: false,
        local_uri: None,
    })
}

#[tokio::test]
async fn certificates_of_version_1_are_taken_from_a_root_of_ours() {
    let read = |pem: &[u8]| CertificateDer::from_pem_slice(pem).expect("a certificate");
    let old = Arc::new(Identity {
        chain: vec![read(include_bytes!("testdata/version1.pem"))],
        key: PrivateKeyDer::from_pem_slice(include_bytes!("testdata/version1.key.pem")).expect("a key"),
    });
    let trust = || {
        Arc::new(TrustBundle {
            roots: vec![read(include_bytes!("testdata/root.pem"))],
            ..TrustBundle::default()
        })
    };
    let ca = TestCa::new("another root");
    for newest in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let mut parts = common(Some(&old), Some(trust()));
        parts.max_version = newest;
        let server = server_tls(parts, true);
        // Both sides present one.
        let (served, asked) = handshake(&client_tls(common(Some(&old), Some(trust())), ""), &server).await;
        assert_eq!(
            served.expect("trusted").0.peer_subject.as_deref(),
            Some("CN=old.test,O=Tests")
        );
        assert_eq!(asked.expect("trusted"), b"hello");

        let (_, asked) = handshake(&client_tls(common(Some(&old), Some(ca.bundle())), ""), &server).await;
        assert!(asked.is_err(), "of another root");
        let mut parts = common(Some(&old), Some(trust()));
        parts.sans = vec![uri_prefix("spiffe://")];
        let (_, asked) = handshake(&client_tls(parts, ""), &server).await;
        assert!(asked.is_err(), "it has no names");
        // Somebody who has the certificate and not its key.
        let thief = Arc::new(Identity {
            chain: old.chain.clone(),
            key: ca.itself().key.clone_key(),
        });
        assert!(check_identity(&thief).is_err());
        let (_, asked) = handshake(&client_tls(common(None, Some(trust())), ""), &unchecked(&thief, newest)).await;
        assert!(asked.is_err(), "the signature of the handshake is not by its key");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let ca = TestCa::new("root");
    let (one, two) = (ca.workload("a", "a"), ca.workload("b", "b"));
    let mixed = Arc::new(Identity {
        chain: one.chain.clone(),
        key: two.key.clone_key(),
    });
    let error = server_config(&ServerTlsParams {
        common: common(Some(&mixed), None),
        require_client_certificate: false,
    })
    .expect_err("not a pair");
    assert!(error.contains("the key does not fit"), "{error}");
}
