//! The workload's identity: a key of our own, a certificate from the mesh's authority, renewed at half its life.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use mesh_api::ca::IstioCertificateRequest;
use mesh_api::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_api::names;
use rand::Rng;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::settings::Agent;
use crate::dns::proxy;
use crate::snapshot::Secret;
use crate::snapshot::build::{certificates, identity, system_roots};
use crate::snapshot::config::Config;
use crate::tls::{Identity, TrustBundle};
use crate::xds::{LastGood, Roots, channel, with_credentials};

/// After a failed request: doubled up to the longest, each with full jitter.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// One request may take this long.
const REQUEST: Duration = Duration::from_secs(10);
/// Renewal is spread by this share of the lifetime, so that a mesh does not renew in step.
const JITTER: f64 = 0.01;

/// A certificate with its key and the roots that came with it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Chain without the root, and key.
    pub identity: Arc<Identity>,
    /// Roots of the mesh.
    pub roots: Arc<TrustBundle>,
}

impl Agent {
    /// Puts a saved identity in place if it is still good, then asks for new ones in the background, for as long as the
    /// proxy runs. Starts the DNS proxy when DNS is captured.
    ///
    /// # Errors
    /// When the DNS proxy's port cannot be opened.
    pub async fn start(&self, config: &Arc<Config>, last_good: Option<&LastGood>) -> anyhow::Result<()> {
        if let Some(saved) = last_good.and_then(LastGood::identity) {
            tracing::info!("identity of an earlier run is in use until a new one comes");
            self.install(config, &saved);
        }
        let (agent, in_use) = (self.clone(), config.clone());
        tokio::spawn(async move { agent.keep_identity(&in_use).await });
        if self.dns_capture {
            let options = proxy::ProxyOptions {
                listen: self.loopbacks().map(|ip| (ip, names::port::DNS).into()).collect(),
                resolv_conf: "/etc/resolv.conf".into(),
                upstreams: Vec::new(),
            };
            proxy::start(options, config.names()).await?;
        }
        Ok(())
    }

    fn install(&self, config: &Config, issued: &Issued) {
        self.certificate.store(Some(issued.identity.clone()));
        // Roots first: an identity without roots would refuse everybody for a moment.
        config.set_secret(names::SDS_ROOT_CA, Secret::Trust(issued.roots.clone()));
        config.set_secret(names::SDS_DEFAULT, Secret::Identity(issued.identity.clone()));
        let readiness = &config.shared.readiness;
        readiness.identity.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    async fn keep_identity(&self, config: &Config) {
        let mut retry = FIRST_RETRY;
        let mut issued_at = None;
        loop {
            if let Some(current) = self.certificate.load_full()
                && let Some(wait) = until_renewal(&current, issued_at, SystemTime::now())
            {
                tokio::time::sleep(wait).await;
            }
            match self.request().await {
                Ok(issued) => {
                    retry = FIRST_RETRY;
                    issued_at = Some(SystemTime::now());
                    tracing::info!(identity = %self.identity, "certificate issued");
                    self.install(config, &issued);
                    // An authority that gives certificates of no lifetime is not asked in a tight loop.
                    tokio::time::sleep(FIRST_RETRY).await;
                }
                Err(e) => {
                    let wait = jitter(retry);
                    tracing::warn!(retry_in = ?wait, "no certificate from {}:{}: {e:#}", self.ca.host, self.ca.port);
                    tokio::time::sleep(wait).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// One request: a new key, its signing request, the authority's answer.
    ///
    /// # Errors
    /// When the authority cannot be reached or refuses, or its answer is no chain for the key.
    pub async fn request(&self) -> anyhow::Result<Issued> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let csr = signing_request(&key, &self.identity.to_string())?;
        let channel = channel(&self.ca).await?;
        let mut client = IstioCertificateServiceClient::new(channel);
        let message = IstioCertificateRequest {
            csr,
            validity_duration: i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX),
            metadata: None,
        };
        let request = with_credentials(tonic::Request::new(message), &self.ca)?;
        let answer = tokio::time::timeout(REQUEST, client.create_certificate(request))
            .await
            .context("no answer in time")?
            .map_err(|status| anyhow::anyhow!("{:?}: {}", status.code(), status.message()))?;
        let extra = self.ca.roots.as_ref().map(file_roots).transpose()?.unwrap_or_default();
        issued(&answer.into_inner().cert_chain, &key.serialize_pem(), extra)
    }
}

fn signing_request(key: &KeyPair, identity: &str) -> anyhow::Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
    Ok(params.serialize_request(key)?.pem()?)
}

/// Takes an answer apart: leaf first, intermediates, the root last.
pub(super) fn issued(chain: &[String], key: &str, mut roots: Vec<CertificateDer<'static>>) -> anyhow::Result<Issued> {
    let mut all = Vec::new();
    for pem in chain {
        all.extend(certificates(pem.as_bytes()).map_err(|e| anyhow::anyhow!("the answer's chain: {e}"))?);
    }
    anyhow::ensure!(
        all.len() > 1,
        "the answer holds {} certificates; a leaf and a root are needed",
        all.len()
    );
    if let Some(root) = all.pop()
        && !roots.contains(&root)
    {
        roots.insert(0, root);
    }
    let mut made =
        identity(chain.concat().as_bytes(), key.as_bytes()).map_err(|e| anyhow::anyhow!("the answer: {e}"))?;
    made.chain = all;
    Ok(Issued {
        identity: Arc::new(made),
        roots: Arc::new(TrustBundle {
            roots,
            ..TrustBundle::default()
        }),
    })
}

/// Roots that are trusted beside the one that the authority sends: a rotation changes the file first.
fn file_roots(roots: &Roots) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    match roots {
        Roots::File(path) => {
            let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            certificates(&pem).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
        }
        // Public roots prove the control plane, not workloads.
        Roots::System => system_roots().map(|_| Vec::new()).map_err(|e| anyhow::anyhow!("{e}")),
    }
}

/// Start and end of a certificate's life.
///
/// # Errors
/// When it is no X.509 certificate.
pub fn certificate_lifetime(der: &[u8]) -> Result<(SystemTime, SystemTime), String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let validity = certificate.validity();
    Ok((
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    ))
}

/// How long until half of the certificate's life is over, a little spread; `None` when it is over. Life begins when the
/// certificate came, as far as that is known: its own beginning is dated back, and with a short life more than half of
/// it could be in the past already.
pub(super) fn until_renewal(identity: &Identity, issued_at: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    let (valid_from, end) = certificate_lifetime(identity.chain.first()?).ok()?;
    let start = issued_at.unwrap_or(valid_from);
    let life = end.duration_since(start).ok()?;
    let share = 0.5 + rand::rng().random_range(-JITTER..=JITTER);
    let due = start + life.mul_f64(share);
    due.duration_since(now).ok()
}

pub(crate) fn jitter(longest: Duration) -> Duration {
    longest.mul_f64(rand::rng().random_range(0.1..=1.0))
}
