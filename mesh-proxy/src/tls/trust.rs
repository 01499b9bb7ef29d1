//! Chains: from a peer's certificate to one of our roots.

use std::sync::Arc;

use rustls::{CertificateError, OtherError};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder};

use super::{CertNames, TrustBundle, is_valid_at, version1};

/// The machine's own roots are many more, and no peer's certificate is among them.
const FEW: usize = 16;

/// Roots in the form in which chains are verified.
#[derive(Debug)]
pub(super) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    crls: Vec<CertRevocationList<'static>>,
    /// The roots themselves, when they are [`FEW`].
    certificates: Vec<CertificateDer<'static>>,
    /// Subjects of the roots, for messages.
    names: String,
}

/// Why a chain is refused: in words for us, and as the kind that chooses the peer's alert.
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) kind: CertificateError,
}

impl Trust {
    /// Of a bundle.
    ///
    /// # Errors
    /// When a root or revocation list cannot be read.
    pub(super) fn new(bundle: &TrustBundle) -> Result<Self, String> {
        let mut anchors = Vec::with_capacity(bundle.roots.len());
        let mut names = Vec::new();
        for (i, root) in bundle.roots.iter().enumerate() {
            let anchor = webpki::anchor_from_trusted_cert(root)
                .map_err(|e| format!("trusted_ca: certificate {} cannot be a root: {e}", i + 1))?;
            anchors.push(anchor.to_owned());
            if names.len() < 3 {
                names.extend(CertNames::of(root).map(|n| n.subject));
            }
        }
        if bundle.roots.len() > names.len() {
            names.push(format!("{} more", bundle.roots.len() - names.len()));
        }
        let mut crls = Vec::with_capacity(bundle.crls.len());
        for (i, crl) in bundle.crls.iter().enumerate() {
            let crl = OwnedCertRevocationList::from_der(crl)
                .map_err(|e| format!("crl: list {} cannot be read: {e}", i + 1))?;
            crls.push(CertRevocationList::from(crl));
        }
        Ok(Trust {
            anchors,
            crls,
            certificates: if bundle.roots.len() <= FEW {
                bundle.roots.clone()
            } else {
                Vec::new()
            },
            names: names.join("; "),
        })
    }

    /// Verifies a chain for a usage at a time.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        now: UnixTime,
    ) -> Result<(), Refused> {
        let crls: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            // As OpenSSL does with a CRL of one issuer only: an issuer without a list revokes nothing.
            options.with_status_policy(webpki::UnknownStatusPolicy::Allow).build()
        });
        let parsed = match EndEntityCert::try_from(leaf) {
            Ok(parsed) => parsed,
            // Revocation lists cannot be applied to those.
            Err(webpki::Error::UnsupportedCertVersion) if self.crls.is_empty() => {
                return self.verify_version1(leaf, algorithms, now);
            }
            Err(error) => return Err(self.refused(&error)),
        };
        let path = parsed.verify_for_usage(algorithms, &self.anchors, intermediates, now, usage, revocation, None);
        match path {
            Ok(_) => Ok(()),
            Err(webpki::Error::CaUsedAsEndEntity) if self.is_trusted_itself(leaf, now) => Ok(()),
            Err(error) => Err(self.refused(&error)),
        }
    }

    fn verify_version1(
        &self,
        leaf: &CertificateDer<'_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        now: UnixTime,
    ) -> Result<(), Refused> {
        let verified = version1::verify(leaf, &self.certificates, algorithms, now);
        verified
            .unwrap_or_else(|| Err(explain(&webpki::Error::UnsupportedCertVersion)))
            .map_err(|why| Refused {
                why,
                kind: CertificateError::UnknownIssuer,
            })
    }

    /// A self-signed certificate that is trusted by itself. Path building does not take it, since `openssl req -x509` marks
    /// it as a CA's.
    fn is_trusted_itself(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> bool {
        self.certificates.iter().any(|root| root == leaf) && is_valid_at(leaf, now)
    }

    fn refused(&self, error: &webpki::Error) -> Refused {
        Refused {
            why: match error {
                webpki::Error::UnknownIssuer => format!("it is signed by none of our roots ({})", self.names),
                other => explain(other),
            },
            kind: kind_of(error),
        }
    }
}

/// The frequent causes in words.
fn explain(error: &webpki::Error) -> String {
    let when = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map_or_else(|_| "an odd time".to_owned(), |t| t.to_string())
    };
    match error {
        webpki::Error::CertExpired { not_after, .. } => format!("it expired at {}", when(not_after)),
        webpki::Error::CertNotValidYet { time, not_before } => format!(
            "it is not valid before {}, and the clock of this machine says {}",
            when(not_before),
            when(time)
        ),
        webpki::Error::CertRevoked => "it is on the revocation list".to_owned(),
        webpki::Error::InvalidSignatureForPublicKey => {
            "its signature is not by the root of that name; has the root been replaced?".to_owned()
        }
        webpki::Error::UnsupportedCertVersion => "it is not of X.509 version 3".to_owned(),
        other => other.to_string(),
    }
}

fn kind_of(error: &webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { time, not_after } => CertificateError::ExpiredContext {
            time: *time,
            not_after: *not_after,
        },
        webpki::Error::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext {
            time: *time,
            not_before: *not_before,
        },
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        webpki::Error::BadDer | webpki::Error::TrailingData(_) => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other.clone()))),
    }
}
