//! Secrets: from SDS messages, files and the agent, to keys and trust bundles.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mesh_api::envoy::pb::envoy::config::core::v3::DataSource;
use mesh_api::envoy::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::common::data_source;
use super::invalid::{At, Invalid, Result};
use crate::snapshot::{ClientTls, Secret, ServerTls};
use crate::tls::{Identity, TrustBundle, check_identity};

/// Bundle of the machine's own roots: where Debian, then where Red Hat keeps it.
const SYSTEM_ROOTS: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// All secrets by name, and the TLS configurations that were made of them.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    known: BTreeMap<String, Entry>,
    /// Those that the control plane said it does not have: nobody waits for them.
    absent: BTreeSet<String>,
    /// Names that objects depend on.
    names: BTreeSet<Arc<str>>,
    /// Equal contexts with equal secrets share one configuration.
    pub(super) servers: HashMap<u64, Arc<ServerTls>>,
    pub(super) clients: HashMap<u64, Arc<ClientTls>>,
    /// By the context without server name and ALPN, the hash of the secrets, and whether the server's name is verified.
    pub(super) client_configs: HashMap<(Vec<u8>, u64, bool), Arc<rustls::ClientConfig>>,
}

#[derive(Debug)]
struct Entry {
    secret: Secret,
    /// Of the bytes: the same bytes give the same configuration.
    hash: u64,
}

impl Secrets {
    /// Adds or replaces; says whether anything changed.
    pub(super) fn set(&mut self, name: &str, secret: Secret) -> bool {
        let hash = hash_secret(&secret);
        self.absent.remove(name);
        if self.known.get(name).is_some_and(|e| e.hash == hash) {
            return false;
        }
        self.known.insert(name.to_owned(), Entry { secret, hash });
        true
    }

    /// Takes one away; says whether it was there. One that never was is known to be absent from now on. One that was is
    /// waited for like a new one, so that it can be deleted and made again.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let gone = self.known.remove(name).is_some();
        if !gone {
            self.absent.insert(name.to_owned());
        }
        gone
    }

    /// The one copy of this name that all share.
    pub(super) fn shared_name(&mut self, name: &str) -> Arc<str> {
        if let Some(found) = self.names.get(name) {
            return found.clone();
        }
        let made: Arc<str> = name.into();
        self.names.insert(made.clone());
        made
    }

    /// Whether there is nothing to wait for: the secret is there, or is known not to be.
    pub(super) fn settled(&self, name: &str) -> bool {
        self.has(name) || self.absent.contains(name)
    }

    pub(super) fn any_absent(&self) -> bool {
        !self.absent.is_empty()
    }

    /// Forgets the absence of secrets that nobody asks for any more: asked for again, they are waited for again.
    pub(super) fn keep_absent(&mut self, asked_for: impl Fn(&str) -> bool) {
        self.absent.retain(|name| asked_for(name));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.known.iter().map(|(name, entry)| (name.as_str(), &entry.secret))
    }

    /// The secret with its hash. Names of files are read at their first use; afterwards [`Secrets::reread`] follows them.
    pub(super) fn get(&mut self, name: &str) -> Option<(Secret, u64)> {
        if !self.known.contains_key(name) && is_file(name) {
            match read_files(name) {
                Ok(secret) => {
                    self.set(name, secret);
                }
                Err(e) => tracing::warn!(secret = name, "{e}"),
            }
        }
        self.known.get(name).map(|e| (e.secret.clone(), e.hash))
    }

    /// Reads the files behind these names again; gives the names whose content changed.
    pub(super) fn reread<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut changed = Vec::new();
        for name in names.filter(|n| is_file(n)) {
            match read_files(name) {
                Ok(secret) => {
                    if self.set(name, secret) {
                        changed.push(name.to_owned());
                    }
                }
                // A file that is being replaced: what was read before stays in use.
                Err(e) => tracing::warn!(secret = name, "{e}"),
            }
        }
        changed
    }

    /// Forgets configurations that nothing uses.
    pub(super) fn shrink(&mut self) {
        self.servers.retain(|_, c| Arc::strong_count(c) > 1);
        self.clients.retain(|_, c| Arc::strong_count(c) > 1);
        self.client_configs.retain(|_, c| Arc::strong_count(c) > 1);
        self.names.retain(|name| Arc::strong_count(name) > 1);
    }
}

/// Whether this name stands for files: `file-cert:CERT~KEY`, `file-root:PATH`.
pub(super) fn is_file(name: &str) -> bool {
    name.starts_with("file-cert:") || name.starts_with("file-root:")
}

fn read_files(name: &str) -> Result<Secret> {
    let read = |path: &str| std::fs::read(path).map_err(|e| Invalid::new(format!("cannot read {path}: {e}")));
    if let Some(paths) = name.strip_prefix("file-cert:") {
        let Some((cert, key)) = paths.split_once('~') else {
            return Err(Invalid::new(format!("{name:?}: expected file-cert:CERT~KEY")));
        };
        return Ok(Secret::Identity(Arc::new(identity(&read(cert)?, &read(key)?)?)));
    }
    let path = name.strip_prefix("file-root:").unwrap_or(name);
    if path == "system" {
        return system_roots().map(|roots| Secret::Trust(Arc::new(roots)));
    }
    Ok(Secret::Trust(Arc::new(TrustBundle {
        roots: certificates(&read(path)?)?,
        ..TrustBundle::default()
    })))
}

pub(crate) fn system_roots() -> Result<TrustBundle> {
    let from_env = std::env::var("SSL_CERT_FILE").ok();
    let candidates = from_env.as_deref().into_iter().chain(SYSTEM_ROOTS);
    for path in candidates {
        if let Ok(pem) = std::fs::read(path) {
            return Ok(TrustBundle {
                roots: certificates(&pem)?,
                crls: Vec::new(),
                system: true,
            });
        }
    }
    Err(Invalid::new(
        "this machine has no bundle of root certificates; install ca-certificates or set SSL_CERT_FILE",
    ))
}

fn hash_secret(secret: &Secret) -> u64 {
    let mut hasher = DefaultHasher::new();
    match secret {
        Secret::Identity(identity) => {
            identity.chain.hash(&mut hasher);
            identity.key.secret_der().hash(&mut hasher);
        }
        Secret::Trust(trust) => {
            trust.roots.hash(&mut hasher);
            trust.crls.iter().for_each(|crl| crl.as_ref().hash(&mut hasher));
            trust.system.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// A `Secret` message; `None` for kinds that nothing here uses.
pub(super) fn secret(value: &tls::Secret) -> Result<Secret> {
    use tls::secret::Type;
    match &value.r#type {
        Some(Type::TlsCertificate(certificate)) => tls_certificate(certificate)
            .map(|i| Secret::Identity(Arc::new(i)))
            .at("tls_certificate"),
        Some(Type::ValidationContext(context)) => {
            if !context.match_typed_subject_alt_names.is_empty() {
                return Err(Invalid::not_implemented(
                    "validation_context.match_typed_subject_alt_names",
                ));
            }
            trust_bundle(context)
                .at("validation_context")?
                .map(|t| Secret::Trust(Arc::new(t)))
                .ok_or_else(|| Invalid::new("a trusted_ca is required").under("validation_context"))
        }
        Some(Type::SessionTicketKeys(_)) => Err(Invalid::not_implemented("session_ticket_keys")),
        Some(Type::GenericSecret(_)) => Err(Invalid::not_implemented("generic_secret")),
        None => Err(Invalid::new("one of tls_certificate or validation_context is required")),
    }
}

pub(super) fn tls_certificate(value: &tls::TlsCertificate) -> Result<Identity> {
    let part = |source: &Option<DataSource>, field| {
        let source = source
            .as_ref()
            .ok_or_else(|| Invalid::new("a source is required").under(field))?;
        data_source(source).at(field)
    };
    identity(
        &part(&value.certificate_chain, "certificate_chain")?,
        &part(&value.private_key, "private_key")?,
    )
}

/// The roots of a validation context; `None` when it names none.
pub(super) fn trust_bundle(value: &tls::CertificateValidationContext) -> Result<Option<TrustBundle>> {
    let mut out = match (&value.trusted_ca, &value.system_root_certs) {
        (Some(source), _) => TrustBundle {
            roots: data_source(source)
                .and_then(|pem| certificates(&pem))
                .at("trusted_ca")?,
            ..TrustBundle::default()
        },
        (None, Some(_)) => system_roots().at("system_root_certs")?,
        (None, None) => return Ok(None),
    };
    if let Some(source) = &value.crl {
        let pem = data_source(source).at("crl")?;
        out.crls = CertificateRevocationListDer::pem_slice_iter(&pem)
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| Invalid::new(format!("no PEM revocation list: {e}")).under("crl"))?;
    }
    Ok(Some(out))
}

/// A PEM chain with its PEM key; they have to fit each other.
pub(crate) fn identity(chain: &[u8], key: &[u8]) -> Result<Identity> {
    let chain = certificates(chain).at("certificate_chain")?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|e| Invalid::new(format!("no PEM private key: {e}")).under("private_key"))?;
    let identity = Identity { chain, key };
    check_identity(&identity).map_err(|e| Invalid::new(e).under("private_key"))?;
    Ok(identity)
}

/// All certificates of a PEM text; at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Invalid::new(format!("no PEM certificate: {e}")))?;
    if all.is_empty() {
        return Err(Invalid::new("holds no PEM certificate"));
    }
    Ok(all)
}
