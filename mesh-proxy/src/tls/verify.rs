//! Verification of peers: the chain against our roots without regard to host names, then the names against the matchers
//! of the configuration. Sessions are never resumed, so that every connection passes here.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::trust::Trust;
use super::{CertNames, SanKind, SanMatch, TlsCommon, version1};
use crate::snapshot::StringPattern;

thread_local! {
    /// Why the verifier refused a peer during the present poll of a handshake. rustls errors choose the alert that the peer
    /// gets; the text for our own log, with the identities, comes this way (see [`super::handshake`]).
    static REFUSAL: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Takes what the verifier said last on this thread.
pub(super) fn take_refusal() -> Option<String> {
    REFUSAL.with_borrow_mut(Option::take)
}

/// Verifies peers of either side.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    /// `None` when chains are not verified.
    trust: Option<Trust>,
    sans: Vec<SanMatch>,
    /// Check the server's name too.
    server_name: bool,
    /// Clients without a certificate are refused.
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    /// Of a client or a server.
    ///
    /// # Errors
    /// When a root or revocation list cannot be read, and when names are to be matched of peers that are not verified.
    pub(super) fn new(
        common: &TlsCommon,
        server_name: bool,
        mandatory: bool,
        provider: &CryptoProvider,
    ) -> Result<Self, String> {
        if common.trust.is_none() && (server_name || !common.sans.is_empty()) {
            return Err(
                "validation_context: names are matched but there is no trusted_ca, so that anybody could claim \
                        them; add trusted_ca"
                    .to_owned(),
            );
        }
        Ok(PeerVerifier {
            trust: common.trust.as_deref().map(Trust::new).transpose()?,
            sans: common.sans.clone(),
            server_name,
            mandatory,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// The common part of both sides.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        server_name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some(trust) = &self.trust else {
            return Ok(());
        };
        trust
            .verify(leaf, intermediates, usage, self.algorithms.all, now)
            .map_err(|refused| refuse(leaf, &refused.why, refused.kind))?;
        if let Some(name) = server_name.filter(|_| self.server_name) {
            let valid = EndEntityCert::try_from(leaf).and_then(|c| c.verify_is_valid_for_subject_name(name));
            valid.map_err(|_| {
                let why = format!("the name asked for was {:?}", name.to_str());
                refuse(leaf, &why, CertificateError::NotValidForName)
            })?;
        }
        self.verify_sans(leaf)
    }

    fn verify_tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match version1::verify_handshake(message, cert, dss, &self.algorithms) {
            None => verify_tls12_signature(message, cert, dss, &self.algorithms),
            Some(true) => Ok(HandshakeSignatureValid::assertion()),
            Some(false) => Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature)),
        }
    }

    fn verify_tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match version1::public_key(cert) {
            None => verify_tls13_signature(message, cert, dss, &self.algorithms),
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms),
        }
    }

    fn verify_sans(&self, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if self.sans.is_empty() {
            return Ok(());
        }
        let names = CertNames::of(leaf).map_err(|e| refuse(leaf, &e, CertificateError::BadEncoding))?;
        if self.sans.iter().any(|san| fits(san, &names)) {
            return Ok(());
        }
        let why = format!("expected {}", describe(&self.sans));
        let error = CertificateError::Other(OtherError(Arc::new(NotExpected)));
        Err(refuse(leaf, &why, error))
    }
}

/// What the peer learns is only an alert; the text stays here.
#[derive(Debug, thiserror::Error)]
#[error("the certificate's names are not the expected ones")]
struct NotExpected;

fn refuse(leaf: &CertificateDer<'_>, why: &str, kind: CertificateError) -> rustls::Error {
    let who = CertNames::of(leaf).map_or_else(|_| "an unreadable certificate".to_owned(), |n| n.display());
    REFUSAL.set(Some(format!("peer presented {who}: {why}")));
    rustls::Error::InvalidCertificate(kind)
}

fn fits(san: &SanMatch, names: &CertNames) -> bool {
    let any_of = |values: &[String]| values.iter().any(|v| san.value.matches(v));
    let ip = || names.ips.iter().any(|ip| san.value.matches(&ip.to_string()));
    let dns = || {
        any_of(&names.dns)
            || match &san.value.pattern {
                // A certificate for `*.shop.test` is one for `web.shop.test`, as in Envoy.
                StringPattern::Exact(wanted) => names.dns.iter().any(|dns| wildcard_covers(dns, wanted)),
                _ => false,
            }
    };
    match san.kind {
        SanKind::Uri => any_of(&names.uris),
        SanKind::Dns => dns(),
        SanKind::Email => any_of(&names.emails),
        SanKind::Ip => ip(),
        SanKind::Any => any_of(&names.uris) || dns() || any_of(&names.emails) || ip(),
    }
}

/// `*.b.c` covers `a.b.c`, and neither `b.c` nor `x.a.b.c`.
fn wildcard_covers(pattern: &str, name: &str) -> bool {
    let (Some(suffix), Some((first, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else {
        return false;
    };
    !first.is_empty() && rest.eq_ignore_ascii_case(suffix)
}

fn describe(sans: &[SanMatch]) -> String {
    let mut texts: Vec<String> = sans.iter().take(5).map(describe_one).collect();
    if sans.len() > texts.len() {
        texts.push(format!("{} more", sans.len() - texts.len()));
    }
    texts.join(" or ")
}

fn describe_one(san: &SanMatch) -> String {
    match &san.value.pattern {
        StringPattern::Exact(value) => value.clone(),
        StringPattern::Prefix(value) => format!("{value}*"),
        StringPattern::Suffix(value) => format!("*{value}"),
        StringPattern::Contains(value) => format!("*{value}*"),
        StringPattern::Regex(regex) => format!("a name that fits {}", regex.as_str()),
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(
            end_entity,
            intermediates,
            KeyUsage::server_auth(),
            Some(server_name),
            now,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Workloads have one certificate: a list of roots would only make every handshake longer.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::client_auth(), None, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
