//! Certificates of X.509 version 1. `openssl x509 -req` makes them when it is given no extensions, as many instructions for
//! gateways do (Istio's among them), and other proxies take them; the path building of webpki does not. They can say little:
//! no names but a subject, no usage, no authority of their own. So they are taken when one of our roots has signed them
//! directly, and matchers of names refuse them.

use rustls::DigitallySignedStruct;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::is_valid_at;

/// A certificate that is of version 1.
fn read(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    (certificate.version() == X509Version::V1).then_some(certificate)
}

/// Verifies that one of the roots has signed it and that it is valid now. `None` when it is of another version.
pub(super) fn verify(
    leaf: &CertificateDer<'_>,
    roots: &[CertificateDer<'_>],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Option<Result<(), String>> {
    let certificate = read(leaf)?;
    let signed = roots.iter().any(|root| {
        X509Certificate::from_der(root).is_ok_and(|(_, root)| {
            root.subject().as_raw() == certificate.issuer().as_raw() && has_signed(&root, &certificate, algorithms)
        })
    });
    Some(if !signed {
        Err("it is of X.509 version 1 and signed by none of our roots directly".to_owned())
    } else if !is_valid_at(leaf, now) {
        Err("it has expired or is not valid yet".to_owned())
    } else {
        Ok(())
    })
}

fn has_signed(
    root: &X509Certificate<'_>,
    leaf: &X509Certificate<'_>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let signature = identifier(&leaf.signature_algorithm);
    verifies(
        &root.tbs_certificate.subject_pki,
        algorithms.iter().filter(|a| *a.signature_alg_id() == *signature),
        leaf.tbs_certificate.as_ref(),
        &leaf.signature_value.data,
    )
}

/// Verifies the signature of a TLS 1.2 handshake. `None` when the certificate is of another version.
pub(super) fn verify_handshake(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<bool> {
    let certificate = read(certificate)?;
    let fitting = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
    Some(verifies(
        &certificate.tbs_certificate.subject_pki,
        fitting.flat_map(|(_, algorithms)| *algorithms),
        message,
        signed.signature(),
    ))
}

/// The public key, for TLS 1.3, where rustls verifies by it. `None` when the certificate is of another version.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let certificate = read(certificate)?;
    Some(certificate.tbs_certificate.subject_pki.raw.to_vec().into())
}

fn verifies<'a>(
    key: &SubjectPublicKeyInfo<'_>,
    mut algorithms: impl Iterator<Item = &'a &'a dyn SignatureVerificationAlgorithm>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let kind = identifier(&key.algorithm);
    algorithms.any(|algorithm| {
        *algorithm.public_key_alg_id() == *kind
            && algorithm
                .verify_signature(&key.subject_public_key.data, message, signature)
                .is_ok()
    })
}

/// DER of what stands in an `AlgorithmIdentifier`: object identifier and parameters.
fn identifier(algorithm: &AlgorithmIdentifier<'_>) -> Vec<u8> {
    let mut der = Vec::with_capacity(32);
    let mut push = |tag: u8, content: &[u8]| {
        // No identifier of an algorithm that is supported is longer; others match none.
        let length = u8::try_from(content.len()).unwrap_or(u8::MAX).min(127);
        der.extend([tag, length]);
        der.extend(content);
    };
    push(6, algorithm.algorithm.as_bytes());
    if let Some(parameters) = &algorithm.parameters {
        let constructed = if parameters.header.is_constructed() { 0x20 } else { 0 };
        let tag = u8::try_from(parameters.header.tag().0).unwrap_or_default();
        push(tag | constructed, parameters.data);
    }
    der
}
