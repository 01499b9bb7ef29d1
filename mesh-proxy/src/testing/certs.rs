//! A certificate authority for tests.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::PrivateKeyDer;

use crate::snapshot::{ClientTls, ServerTls, StringMatch, StringPattern};
use crate::tls::{
    ClientTlsParams, Identity, SanKind, SanMatch, ServerTlsParams, TlsCommon, TlsVersion, TrustBundle, client_config,
    identity_uri, server_config,
};

/// A root that signs leaves.
pub(crate) struct TestCa(CertifiedIssuer<'static, KeyPair>);

/// When a leaf is valid.
#[derive(Clone, Copy)]
pub(crate) enum Valid {
    Now,
    Past,
}

impl TestCa {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("key");
        TestCa(CertifiedIssuer::self_signed(params, key).expect("root"))
    }

    pub(crate) fn bundle(&self) -> Arc<TrustBundle> {
        Arc::new(TrustBundle {
            roots: vec![self.0.der().clone()],
            ..TrustBundle::default()
        })
    }

    /// The root's own certificate and key.
    pub(crate) fn itself(&self) -> Arc<Identity> {
        Arc::new(Identity {
            chain: vec![self.0.der().clone()],
            key: PrivateKeyDer::try_from(self.0.key().serialize_der()).expect("PKCS #8"),
        })
    }

    /// A leaf with these SANs; those with `://` are URIs, the others DNS names.
    pub(crate) fn leaf(&self, sans: &[&str], valid: Valid) -> Arc<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("leaf, of a test");
        params.subject_alt_names = sans
            .iter()
            .map(|san| {
                let text = (*san).try_into().expect("ASCII");
                if san.contains("://") {
                    SanType::URI(text)
                } else {
                    SanType::DnsName(text)
                }
            })
            .collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = match valid {
            Valid::Now => rcgen::date_time_ymd(2100, 1, 1),
            Valid::Past => rcgen::date_time_ymd(2020, 1, 2),
        };
        let key = KeyPair::generate().expect("key");
        let leaf = params.signed_by(&key, &self.0).expect("leaf");
        Arc::new(Identity {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"),
        })
    }

    /// `spiffe://cluster.local/ns/NS/sa/SA`
    pub(crate) fn workload(&self, namespace: &str, account: &str) -> Arc<Identity> {
        let uri = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        self.leaf(&[&uri], Valid::Now)
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::OrganizationName, "Tests");
    names.push(DnType::CommonName, name);
    names
}

/// TLS 1.2 and 1.3 with this identity and trust.
pub(crate) fn common(identity: Option<&Arc<Identity>>, trust: Option<Arc<TrustBundle>>) -> TlsCommon {
    TlsCommon {
        identities: identity.into_iter().cloned().collect(),
        trust,
        sans: Vec::new(),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
        ecdh_curves: Vec::new(),
        alpn: Vec::new(),
    }
}

pub(crate) fn uri_prefix(prefix: &str) -> SanMatch {
    SanMatch {
        kind: SanKind::Uri,
        value: StringMatch {
            pattern: StringPattern::Prefix(prefix.to_owned()),
            ignore_case: false,
        },
    }
}

pub(crate) fn uri_exact(uri: &str) -> SanMatch {
    SanMatch {
        kind: SanKind::Uri,
        value: StringMatch {
            pattern: StringPattern::Exact(uri.to_owned()),
            ignore_case: false,
        },
    }
}

pub(crate) fn alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|p| p.as_bytes().to_vec()).collect()
}

/// A server context.
pub(crate) fn server_tls(common: TlsCommon, require_client_certificate: bool) -> Arc<ServerTls> {
    let local_uri = common.identities.first().and_then(|i| identity_uri(i));
    let params = ServerTlsParams {
        common,
        require_client_certificate,
    };
    Arc::new(ServerTls {
        config: Some(server_config(&params).expect("server configuration")),
        secrets: Vec::new(),
        require_client_certificate,
        local_uri,
    })
}

/// A client context; its ALPN is `common.alpn`.
pub(crate) fn client_tls(common: TlsCommon, sni: &str) -> Arc<ClientTls> {
    let offered = common.alpn.clone();
    let params = ClientTlsParams {
        common,
        verify_server_name: false,
    };
    Arc::new(ClientTls {
        config: Some(client_config(&params).expect("client configuration")),
        secrets: Vec::new(),
        sni: sni.into(),
        alpn: offered,
        fingerprint: 0,
    })
}
