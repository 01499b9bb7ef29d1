//! rustls configurations.

use std::borrow::Borrow;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, ServerConfig, SignatureScheme, SupportedProtocolVersion, version};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::provider::{provider, provider_for};
use super::verify::PeerVerifier;
use super::{ClientTlsParams, Identity, ServerTlsParams, TlsCommon, TlsVersion};

/// A server's configuration, with its ALPN protocols in order of preference.
///
/// # Errors
/// When key and certificate do not fit each other, or no cipher suite or version is left. The text names what is wrong.
pub fn server_config(params: &ServerTlsParams) -> Result<Arc<ServerConfig>, String> {
    let common = &params.common;
    let provider = provider_for(
        &common.cipher_suites,
        &common.ecdh_curves,
        common.max_version == TlsVersion::V1_2,
    )?;
    let keys = load_keys(&common.identities, &provider)?;
    if keys.is_empty() {
        return Err("tls_certificates: a server needs a certificate".to_owned());
    }
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(common)?)
        .map_err(|e| e.to_string())?;
    let builder = if common.trust.is_some() || params.require_client_certificate {
        let verifier = PeerVerifier::new(common, false, params.require_client_certificate, &provider)?;
        builder.with_client_cert_verifier(Arc::new(verifier))
    } else {
        builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth())
    };
    let mut config = builder.with_cert_resolver(Arc::new(Keys(keys)));
    // A resumed session would bring back the peer's certificate without verifying it again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.ignore_client_order = true;
    config.alpn_protocols.clone_from(&common.alpn);
    Ok(Arc::new(config))
}

/// A client's configuration, without ALPN and server name: those belong to the connection.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(params: &ClientTlsParams) -> Result<Arc<ClientConfig>, String> {
    let common = &params.common;
    let provider = provider_for(
        &common.cipher_suites,
        &common.ecdh_curves,
        common.max_version == TlsVersion::V1_2,
    )?;
    let keys = load_keys(&common.identities, &provider)?;
    let verifier = PeerVerifier::new(common, params.verify_server_name, false, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(common)?)
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = if keys.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_resolver(Arc::new(Keys(keys)))
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn versions(common: &TlsCommon) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let all = [(TlsVersion::V1_3, &version::TLS13), (TlsVersion::V1_2, &version::TLS12)];
    let allowed = common.min_version..=common.max_version;
    let versions: Vec<_> = all
        .into_iter()
        .filter(|(v, _)| allowed.contains(v))
        .map(|(_, v)| v)
        .collect();
    if versions.is_empty() {
        return Err("tls_params: tls_minimum_protocol_version is newer than tls_maximum_protocol_version".to_owned());
    }
    Ok(versions)
}

fn load_keys<I: Borrow<Identity>>(
    identities: &[I],
    provider: &CryptoProvider,
) -> Result<Vec<Arc<CertifiedKey>>, String> {
    identities
        .iter()
        .map(|identity| {
            let identity = identity.borrow();
            let key = provider
                .key_provider
                .load_private_key(identity.key.clone_key())
                .map_err(|e| format!("the private key cannot be used: {e}"))?;
            check_pair(&identity.chain, &*key)?;
            Ok(Arc::new(CertifiedKey::new(identity.chain.clone(), key)))
        })
        .collect()
}

/// Checks that a key can be used and belongs to the first certificate of a chain.
///
/// # Errors
/// Otherwise.
pub fn check_identity(identity: &Identity) -> Result<(), String> {
    load_keys(std::slice::from_ref(identity), &provider()).map(drop)
}

/// rustls has this too, but only for certificates of X.509 version 3.
fn check_pair(chain: &[CertificateDer<'_>], key: &dyn SigningKey) -> Result<(), String> {
    let leaf = chain.first().ok_or("the certificate chain is empty")?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|e| format!("no X.509 certificate: {e}"))?;
    // A key that cannot tell its public half is tried as it is.
    match key.public_key() {
        Some(public) if public.as_ref() != certificate.tbs_certificate.subject_pki.raw => {
            Err("the key does not fit the certificate (the first one of the chain)".to_owned())
        }
        _ => Ok(()),
    }
}

/// Our certificates: the first whose key can sign in a way that the peer understands is used.
#[derive(Debug)]
struct Keys(Vec<Arc<CertifiedKey>>);

impl Keys {
    fn choose(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fitting = self.0.iter().find(|k| k.key.choose_scheme(schemes).is_some());
        fitting.or(self.0.first()).cloned()
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.signature_schemes())
    }
}

impl ResolvesClientCert for Keys {
    fn resolve(&self, _root_hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.choose(schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
