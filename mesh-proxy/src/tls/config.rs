//! rustls configurations.

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme, SupportedProtocolVersion, version};

use super::provider::provider_for;
use super::verify::PeerVerifier;
use super::{ClientTlsParams, Identity, ServerTlsParams, TlsCommon, TlsVersion};

/// A server's configuration, with its ALPN protocols in order of preference.
///
/// # Errors
/// When key and certificate do not fit each other, or no cipher suite or version is left. The text names what is wrong.
pub fn server_config(params: &ServerTlsParams) -> Result<Arc<ServerConfig>, String> {
    let common = &params.common;
    let provider = provider_for(&common.cipher_suites, common.max_version == TlsVersion::V1_2)?;
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
    let provider = provider_for(&common.cipher_suites, common.max_version == TlsVersion::V1_2)?;
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

fn load_keys(identities: &[Arc<Identity>], provider: &CryptoProvider) -> Result<Vec<Arc<CertifiedKey>>, String> {
    identities
        .iter()
        .map(|identity| {
            let key = provider
                .key_provider
                .load_private_key(identity.key.clone_key())
                .map_err(|e| format!("private_key cannot be used: {e}"))?;
            let certified = CertifiedKey::new(identity.chain.clone(), key);
            match certified.keys_match() {
                Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                    Err("private_key does not belong to the first certificate of certificate_chain".to_owned())
                }
                // Also a key that cannot tell its public half, and an old form of certificate: they are presented as they
                // are, whether they are good enough is the peer's decision.
                _ => Ok(Arc::new(certified)),
            }
        })
        .collect()
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
