//! Signed tokens that prove a workload's service account where there is no Kubernetes to ask.
//!
//! They have the shape of Kubernetes' projected tokens (audience `istio-ca`, subject
//! `system:serviceaccount:NAMESPACE:NAME`) and are signed (ES256) by a key in the CA's folder.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

use super::files;

/// Audience of the tokens that the CA accepts.
pub const AUDIENCE: &str = "istio-ca";
const ISSUER: &str = "mesh-control";
const KEY_FILE: &str = "token-key.pem";
/// Clocks may differ by this much.
const LEEWAY_SECONDS: u64 = 60;

/// A namespace's service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::str::FromStr for ServiceAccount {
    type Err = String;

    /// Reads `NAMESPACE/NAME`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} is not NAMESPACE/NAME, such as shop/catalog"))?;
        for part in [namespace, name] {
            if !is_dns_name(part) {
                return Err(format!("{part:?} is no Kubernetes name (a-z, 0-9, '-' and '.')"));
            }
        }
        Ok(ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

fn is_dns_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= 253 && text.bytes().all(inner) && edge(text.as_bytes().first()) && edge(text.as_bytes().last())
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// Writes and checks tokens.
pub struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Opens the signing key in the CA's folder; makes one if there is none.
    ///
    /// # Errors
    /// When the key cannot be read, made or used.
    pub fn open(dir: &Path) -> Result<Self> {
        files::make_dir(dir)?;
        let path = dir.join(KEY_FILE);
        let pem = match files::read(&path)? {
            Some(pem) => pem,
            None => {
                let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
                files::create_once(&path, &key.serialize_pem(), files::SECRET)?
            }
        };
        let problem = || format!("{} is no P-256 private key", path.display());
        let key = rcgen::KeyPair::from_pem(&pem).with_context(problem)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        Ok(Tokens {
            signing: EncodingKey::from_ec_pem(pem.as_bytes()).with_context(problem)?,
            checking: DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).with_context(problem)?,
            validation,
        })
    }

    /// Writes a token that proves `account` for `ttl` from `now` on.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(&self, account: &ServiceAccount, ttl: Duration, now: SystemTime) -> Result<String> {
        self.issue_for(account, AUDIENCE, ttl, now)
    }

    pub(super) fn issue_for(
        &self,
        account: &ServiceAccount,
        audience: &str,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: format!("system:serviceaccount:{}:{}", account.namespace, account.name),
            aud: vec![audience.to_owned()],
            iat: now,
            nbf: now,
            exp: now.saturating_add(ttl.as_secs()),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing).context("cannot sign the token")
    }

    /// The service account that a token proves.
    ///
    /// # Errors
    /// With the reason, for the caller to read: nothing in it is secret.
    pub fn check(&self, token: &str) -> Result<ServiceAccount, String> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.checking, &self.validation).map_err(|e| match e.kind() {
            ErrorKind::ExpiredSignature => "the token has expired; write a new one with `mesh-control token`".to_owned(),
            ErrorKind::InvalidAudience => format!("the token is for another audience; the CA takes {AUDIENCE}"),
            ErrorKind::InvalidSignature | ErrorKind::InvalidIssuer | ErrorKind::InvalidAlgorithm => {
                "the token is not signed by this control plane's key; write one with `mesh-control token` on the same --ca-dir"
                    .to_owned()
            }
            _ => format!("the token is malformed: {e}"),
        })?;
        let mut parts = data.claims.sub.split(':');
        let account = match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("system"), Some("serviceaccount"), Some(namespace), Some(name), None) => {
                format!("{namespace}/{name}").parse().ok()
            }
            _ => None,
        };
        account.ok_or_else(|| format!("the token's subject {:?} is no service account", data.claims.sub))
    }
}

/// Writes a token to a file that only the owner reads.
///
/// # Errors
/// When the file cannot be written.
pub fn write(file: &Path, token: &str) -> Result<()> {
    files::replace(file, token, files::SECRET)
}
