//! The mesh's certificate authority: a self-signed root kept in a folder, or the user's own `cacerts`.
//!
//! Files, named as in the Secret `cacerts`: `ca-cert.pem` and `ca-key.pem` sign; `cert-chain.pem` leads from them to the
//! root; `root-cert.pem` holds the roots that proxies trust (one or several). `extra-roots.pem` adds roots, so that a
//! new root can be trusted everywhere before the first certificate of it appears. All of them together are written to
//! `bundle/root-cert.pem`, for agents.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use mesh_api::names::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;

use super::files;

/// Lifetime of a workload's certificate when the request names none.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Longest lifetime that may be asked for.
pub const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// Certificates begin this long before their issue: clocks of pods are not all equal.
pub const BACKDATE: Duration = Duration::from_secs(120);
/// Lifetime of the self-signed root.
const ROOT_TTL: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Why a certificate was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request is at fault.
    #[error("{0}")]
    Request(String),
    /// The authority is at fault.
    #[error("cannot sign: {0}")]
    Internal(String),
}

/// Signs certificates of workloads. Immutable.
#[derive(Debug)]
pub struct Authority {
    trust_domain: String,
    issuer: Issuer<'static, KeyPair>,
    /// Nearest to the leaf first, without the root.
    intermediates: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
    roots: Vec<CertificateDer<'static>>,
    /// End of the signing certificate: nothing that it signs may live longer.
    not_after: SystemTime,
    bundle: PathBuf,
}

/// A certificate with its key, for a TLS server.
#[derive(Debug)]
pub struct ServerIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: rustls_pki_types::PrivateKeyDer<'static>,
}

impl Authority {
    /// Opens the authority in `dir`; makes a self-signed root there if the folder holds none.
    ///
    /// # Errors
    /// When files cannot be read or written, are no PEM, or do not belong together.
    pub fn open(dir: &Path, trust_domain: &str) -> Result<Self> {
        Self::open_with(dir, trust_domain, &[])
    }

    /// As [`Authority::open`], with further roots to trust, each text one or several PEM certificates.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn open_with(dir: &Path, trust_domain: &str, further_roots: &[String]) -> Result<Self> {
        files::make_dir(dir)?;
        let path = |name: &str| dir.join(name);
        let (cert_file, key_file, root_file) = (path("ca-cert.pem"), path("ca-key.pem"), path("root-cert.pem"));
        let (cert, key) = match (files::read(&cert_file)?, files::read(&key_file)?) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => bail!(
                "{} is there but {} is not; put both, or remove both to get a new self-signed root",
                cert_file.display(),
                key_file.display()
            ),
            // Only a key: another process is at the same start, or was stopped there. The key decides.
            (None, key) => {
                let key = match key {
                    Some(key) => key,
                    None => files::create_once(&key_file, &new_key()?, files::SECRET)?,
                };
                let cert = files::create_once(&cert_file, &self_signed(&key, trust_domain)?, files::PUBLIC)?;
                files::create_once(&root_file, &cert, files::PUBLIC)?;
                files::create_once(&path("cert-chain.pem"), &cert, files::PUBLIC)?;
                (cert, key)
            }
        };

        let signing = files::certificates(&cert, &cert_file)?
            .into_iter()
            .next()
            .with_context(|| format!("{} holds no certificate", cert_file.display()))?;
        let roots = match files::read(&root_file)? {
            Some(text) => files::certificates(&text, &root_file)?,
            None => vec![signing.clone()],
        };
        let chain_file = path("cert-chain.pem");
        let chain = files::certificates(&files::read(&chain_file)?.unwrap_or_default(), &chain_file)?;
        let extra_file = path("extra-roots.pem");
        let extra = files::certificates(&files::read(&extra_file)?.unwrap_or_default(), &extra_file)?;

        let key =
            KeyPair::from_pem(&key).with_context(|| format!("{} is no usable private key", key_file.display()))?;
        let not_after = check_signer(&signing, &key).with_context(|| cert_file.display().to_string())?;
        let (intermediates, root) = order_chain(&signing, &chain, &roots).with_context(|| {
            format!(
                "{} does not lead to a root of {}",
                chain_file.display(),
                root_file.display()
            )
        })?;
        let issuer = Issuer::from_ca_cert_der(&signing, key).with_context(|| cert_file.display().to_string())?;

        let mut trusted = roots;
        trusted.extend(extra);
        for text in further_roots {
            trusted.extend(files::certificates(
                text,
                Path::new("caCertificates of the MeshConfig"),
            )?);
        }
        let mut seen = std::collections::HashSet::new();
        trusted.retain(|c| seen.insert(c.clone()));

        let bundle = dir.join("bundle").join("root-cert.pem");
        files::make_dir(&dir.join("bundle"))?;
        let text: String = trusted.iter().map(files::pem).collect();
        if files::read(&bundle)?.as_deref() != Some(text.as_str()) {
            files::replace(&bundle, &text, files::PUBLIC)?;
        }
        Ok(Authority {
            trust_domain: trust_domain.to_owned(),
            issuer,
            intermediates,
            root,
            roots: trusted,
            not_after,
            bundle,
        })
    }

    /// Trust domain of the identities that are signed.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// All trusted roots.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// File with all trusted roots, for agents.
    pub fn bundle_file(&self) -> &Path {
        &self.bundle
    }

    /// When the signing certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Signs the key of a request for `identity`. What the request says about names is ignored. Gives PEM blocks: leaf,
    /// intermediates, root.
    ///
    /// # Errors
    /// When the request is malformed, is not signed by its own key, has a weak key, or asks for too long a time.
    pub fn sign(
        &self,
        csr: &str,
        identity: &SpiffeId,
        ttl: Option<Duration>,
        now: SystemTime,
    ) -> Result<Vec<String>, SignError> {
        let key = public_key(csr)?;
        let ttl = ttl.unwrap_or(DEFAULT_TTL);
        if ttl > MAX_TTL {
            return Err(SignError::Request(format!(
                "requested lifetime {} s is longer than the longest allowed, {} s (90 days)",
                ttl.as_secs(),
                MAX_TTL.as_secs()
            )));
        }
        if now >= self.not_after {
            return Err(SignError::Internal(
                "the signing certificate has ended; put a new ca-cert.pem and ca-key.pem and restart mesh-control"
                    .to_owned(),
            ));
        }
        let uri = identity.to_string().try_into();
        let uri = uri.map_err(|e| SignError::Request(format!("identity {identity}: {e}")))?;
        let params = self.leaf_params(vec![SanType::URI(uri)], ttl, now);
        let leaf = params
            .signed_by(&key, &self.issuer)
            .map_err(|e| SignError::Internal(e.to_string()))?;
        let chain = std::iter::once(leaf.der())
            .chain(&self.intermediates)
            .chain([&self.root]);
        Ok(chain.map(files::pem).collect())
    }

    /// A certificate for the control plane's own TLS server.
    ///
    /// # Errors
    /// When a name is no DNS name.
    pub fn server_identity(&self, names: &[String], ttl: Duration, now: SystemTime) -> Result<ServerIdentity> {
        let key = KeyPair::generate().context("cannot make a key")?;
        let names = CertificateParams::new(names.to_vec()).context("the server's names")?;
        let params = self.leaf_params(names.subject_alt_names, ttl, now);
        let leaf = params.signed_by(&key, &self.issuer).context("cannot sign")?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.intermediates.iter().cloned());
        Ok(ServerIdentity {
            chain,
            key: rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    fn leaf_params(&self, names: Vec<SanType>, ttl: Duration, now: SystemTime) -> CertificateParams {
        let mut params = base_params(now - BACKDATE, (now + ttl).min(self.not_after));
        params.subject_alt_names = names;
        // Without a subject the extension with the names is critical (RFC 5280 4.2.1.6); rcgen does that by itself.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params
    }
}

fn base_params(from: SystemTime, to: SystemTime) -> CertificateParams {
    let since = |t: SystemTime| Duration::from_secs(t.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut serial: [u8; 16] = rand::random();
    // A serial number is a positive integer that does not begin with a zero byte.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = epoch + since(from);
    params.not_after = epoch + since(to);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn new_key() -> Result<String> {
    Ok(KeyPair::generate().context("cannot make a key")?.serialize_pem())
}

fn self_signed(key: &str, trust_domain: &str) -> Result<String> {
    let key = KeyPair::from_pem(key).context("ca-key.pem is no usable private key")?;
    let now = SystemTime::now();
    let mut params = base_params(now - BACKDATE, now + ROOT_TTL);
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(&key).context("cannot sign the root")?.pem())
}

/// The end of the signing certificate, once it has been seen to be one and to belong to the key.
fn check_signer(cert: &CertificateDer<'_>, key: &KeyPair) -> Result<SystemTime> {
    use rcgen::PublicKeyData;
    let (_, parsed) = x509_parser::parse_x509_certificate(cert).context("no X.509 certificate")?;
    if !parsed.is_ca() {
        bail!("the certificate is none of a CA (basicConstraints CA:TRUE is missing)");
    }
    if parsed.public_key().subject_public_key.as_ref() != key.der_bytes() {
        bail!("the certificate and ca-key.pem do not belong together");
    }
    let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let end = UNIX_EPOCH + Duration::from_secs(end);
    if end <= SystemTime::now() {
        bail!("the certificate ended on {}", parsed.validity().not_after);
    }
    Ok(end)
}

/// From the signing certificate up to a trusted root: what goes between leaf and root, and the root.
fn order_chain(
    signing: &CertificateDer<'static>,
    chain: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
) -> Result<(Vec<CertificateDer<'static>>, CertificateDer<'static>)> {
    let mut between = Vec::new();
    let mut current = signing.clone();
    loop {
        if roots.contains(&current) {
            return Ok((between, current));
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(&current).context("no X.509 certificate")?;
        let issued = |c: &&CertificateDer<'static>| {
            x509_parser::parse_x509_certificate(c).is_ok_and(|(_, issuer)| {
                issuer.subject() == parsed.issuer() && parsed.verify_signature(Some(issuer.public_key())).is_ok()
            })
        };
        let next = roots.iter().find(issued).or_else(|| chain.iter().find(issued));
        let Some(next) = next.cloned() else {
            bail!(
                "no certificate of {:?}, the issuer of {:?}",
                parsed.issuer().to_string(),
                parsed.subject().to_string()
            );
        };
        if between.contains(&current) || next == current {
            bail!(
                "{:?} is its own issuer and not among the roots",
                parsed.subject().to_string()
            );
        }
        between.push(std::mem::replace(&mut current, next));
    }
}

/// The public key of a signing request, after a check of the request's own signature.
fn public_key(csr: &str) -> Result<SubjectPublicKeyInfo, SignError> {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::public_key::PublicKey;

    let bad = |text: String| SignError::Request(format!("certificate signing request: {text}"));
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(csr.as_bytes())
        .map_err(|e| bad(format!("expected one PEM block CERTIFICATE REQUEST: {e}")))?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|e| bad(e.to_string()))?;
    if !rest.is_empty() {
        return Err(bad("bytes after its end".to_owned()));
    }
    request
        .verify_signature()
        .map_err(|_| bad("it is not signed by the key that it holds".to_owned()))?;
    let spki = &request.certification_request_info.subject_pki;
    if let Ok(PublicKey::RSA(rsa)) = spki.parsed()
        && rsa.key_size() < 2048
    {
        return Err(bad(format!(
            "RSA key of {} bits; at least 2048 are needed",
            rsa.key_size()
        )));
    }
    SubjectPublicKeyInfo::from_der(spki.raw).map_err(|e| bad(format!("public key: {e}")))
}
