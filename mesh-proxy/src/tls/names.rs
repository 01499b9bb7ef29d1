//! What a certificate says about its holder.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::CommonState;
use rustls_pki_types::UnixTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::Identity;

/// Names in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertNames {
    /// URI SANs, the SPIFFE identity among them.
    pub uris: Vec<String>,
    /// DNS SANs.
    pub dns: Vec<String>,
    /// E-mail SANs.
    pub emails: Vec<String>,
    /// IP address SANs.
    pub ips: Vec<IpAddr>,
    /// Subject, RFC 2253.
    pub subject: String,
    /// Issuer, RFC 2253.
    pub issuer: String,
}

impl CertNames {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| format!("no X.509 certificate: {e}"))?;
        let mut names = CertNames {
            subject: rfc2253(certificate.subject()),
            issuer: rfc2253(certificate.issuer()),
            ..CertNames::default()
        };
        let sans = certificate
            .subject_alternative_name()
            .map_err(|e| format!("malformed subject alternative names: {e}"))?;
        for name in sans.iter().flat_map(|s| &s.value.general_names) {
            match name {
                GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
                GeneralName::RFC822Name(mail) => names.emails.push((*mail).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    names
                        .ips
                        .extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok());
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// The SPIFFE URI, or the first URI.
    pub fn identity(&self) -> Option<&str> {
        let spiffe = self.uris.iter().find(|u| u.starts_with("spiffe://"));
        spiffe.or(self.uris.first()).map(String::as_str)
    }

    /// How messages call the holder: identity, else DNS names, else subject.
    pub fn display(&self) -> String {
        if let Some(identity) = self.identity() {
            identity.to_owned()
        } else if !self.dns.is_empty() {
            self.dns.join(", ")
        } else if self.subject.is_empty() {
            "a certificate without names".to_owned()
        } else {
            self.subject.clone()
        }
    }
}

/// SPIFFE URI of one's own certificate.
pub fn identity_uri(identity: &Identity) -> Option<Arc<str>> {
    let names = CertNames::of(identity.chain.first()?).ok()?;
    names.identity().map(Arc::from)
}

/// SPIFFE URI of the peer's certificate, once the handshake is done.
pub fn peer_uri(connection: &CommonState) -> Option<Arc<str>> {
    let names = CertNames::of(connection.peer_certificates()?.first()?).ok()?;
    names.identity().map(Arc::from)
}

/// Whether a certificate is valid at a time; not when it cannot be read.
pub(super) fn is_valid_at(der: &[u8], time: UnixTime) -> bool {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    X509Certificate::from_der(der)
        .ok()
        .zip(ASN1Time::from_timestamp(seconds).ok())
        .is_some_and(|((_, certificate), time)| certificate.validity().is_valid_at(time))
}

/// The distinguished name, last part first, as `x-forwarded-client-cert` writes it.
fn rfc2253(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for rdn in parts.into_iter().rev() {
        for (i, attribute) in rdn.iter().enumerate() {
            match (text.is_empty(), i) {
                (true, _) => {}
                (false, 0) => text.push(','),
                (false, _) => text.push('+'),
            }
            let oid = attribute.attr_type().to_id_string();
            text.push_str(short_name(&oid).unwrap_or(&oid));
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut text),
                Err(_) => {
                    text.push('#');
                    for byte in attribute.as_slice() {
                        let _ = write!(text, "{byte:02x}");
                    }
                }
            }
        }
    }
    text
}

fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "2.5.4.5" => "serialNumber",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn escape(value: &str, into: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        let edge = (i == 0 && (c == ' ' || c == '#')) || (i == last && c == ' ');
        if edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            into.push('\\');
        }
        into.push(c);
    }
}
