//! What a TLS configuration is made of, as plain data: the builder of snapshots fills these in from Envoy's messages and
//! secrets, [`super::server_config`] and [`super::client_config`] make rustls configurations of them.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::snapshot::StringMatch;

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

/// Certificates that are trusted as issuers.
#[derive(Debug, Default)]
pub struct TrustBundle {
    /// Roots; empty trusts nobody.
    pub roots: Vec<CertificateDer<'static>>,
    /// `crl`.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// `file-root:system`: the machine's own roots are trusted too. They are read into `roots` by the builder; this says
    /// that names, not SPIFFE identities, are what peers are known by.
    pub system: bool,
}

/// `SubjectAltNameMatcher`: one match is enough.
#[derive(Debug, Clone)]
pub struct SanMatch {
    /// Kind of name that is looked at.
    pub kind: SanKind,
    /// How it has to look.
    pub value: StringMatch,
}

/// `SubjectAltNameMatcher.san_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanKind {
    /// Any of the four (the deprecated `match_subject_alt_names`).
    Any,
    /// `EMAIL`.
    Email,
    /// `DNS`.
    Dns,
    /// `URI`.
    Uri,
    /// `IP_ADDRESS`.
    Ip,
}

/// `tls_minimum_protocol_version` and its like; older ones are refused by the builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Either side's common part.
#[derive(Debug)]
pub struct TlsCommon {
    /// Who we are; the first that suits the peer is used. Empty for a client without a certificate.
    pub identities: Vec<Arc<Identity>>,
    /// Whom we trust; `None` when peers are not verified.
    pub trust: Option<Arc<TrustBundle>>,
    /// What the peer has to be called, beside being trusted; empty for no such demand.
    pub sans: Vec<SanMatch>,
    /// Oldest version.
    pub min_version: TlsVersion,
    /// Newest version.
    pub max_version: TlsVersion,
    /// `cipher_suites` for TLS 1.2 in OpenSSL's names; empty for all that are safe. Names that rustls does not have (without
    /// forward secrecy) are left out, an error only when none is left.
    pub cipher_suites: Vec<String>,
    /// `ecdh_curves` in BoringSSL's names, in order of preference; empty for all. Those that rustls does not have are left out,
    /// an error only when none is left.
    pub ecdh_curves: Vec<String>,
    /// `alpn_protocols`, in order.
    pub alpn: Vec<Vec<u8>>,
}

/// `DownstreamTlsContext` with its secrets.
#[derive(Debug)]
pub struct ServerTlsParams {
    /// Common part.
    pub common: TlsCommon,
    /// `require_client_certificate`: false asks for one when there is trust, and takes callers without.
    pub require_client_certificate: bool,
}

/// `UpstreamTlsContext` with its secrets.
#[derive(Debug)]
pub struct ClientTlsParams {
    /// Common part; `alpn` is left to the connection ([`crate::snapshot::ClientTls::alpn`]).
    pub common: TlsCommon,
    /// The certificate's DNS names (or addresses) are checked against the server name that the connection asks for
    /// (`auto_san_validation`). Never with SPIFFE identities.
    pub verify_server_name: bool,
}
