//! Who calls: proven by a token in the request, or by the certificate of the connection.

use std::sync::Arc;

use mesh_api::names::SpiffeId;
use rustls_pki_types::CertificateDer;
use tonic::{Request, Status};
use x509_parser::prelude::GeneralName;

use super::token::{ServiceAccount, Tokens};
use crate::serve::cluster::reviews::Reviews;

/// A proven caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub id: SpiffeId,
    /// How that was proven: `token` or `certificate`.
    pub proof: &'static str,
}

/// Who says whose a token is.
#[derive(Clone)]
pub enum Proofs {
    /// This control plane, which has signed it.
    Own(Arc<Tokens>),
    /// The API server.
    Cluster(Arc<Reviews>),
}

impl Proofs {
    async fn check(&self, token: &str) -> Result<ServiceAccount, String> {
        match self {
            Proofs::Own(tokens) => tokens.check(token),
            Proofs::Cluster(reviews) => reviews.check(token).await,
        }
    }
}

/// Proves callers.
#[derive(Clone)]
pub struct Callers {
    proofs: Proofs,
    trust_domain: Arc<str>,
}

impl Callers {
    /// Callers of one trust domain.
    pub fn new(proofs: Proofs, trust_domain: &str) -> Self {
        Callers {
            proofs,
            trust_domain: trust_domain.into(),
        }
    }

    /// The caller's identity; `None` when the request brings no proof at all. The answer `UNAUTHENTICATED` means that it
    /// brings one that does not hold.
    pub fn prove<T>(
        &self,
        request: &Request<T>,
    ) -> impl Future<Output = Result<Option<Caller>, Status>> + Send + use<T> {
        // Nothing of the request is kept while others are asked.
        let token = bearer(request).map(|t| t.map(str::to_owned));
        let leaf = request.peer_certs().and_then(|chain| chain.first().cloned());
        let (proofs, trust_domain) = (self.proofs.clone(), self.trust_domain.clone());
        async move {
            if let Some(token) = token? {
                let account = proofs.check(&token).await.map_err(Status::unauthenticated)?;
                return Ok(Some(Caller {
                    id: SpiffeId {
                        trust_domain: trust_domain.to_string(),
                        namespace: account.namespace,
                        service_account: account.name,
                    },
                    proof: "token",
                }));
            }
            // The TLS server has verified the chain up to our roots; here it is only read.
            let Some(leaf) = leaf else { return Ok(None) };
            let id = identity_of(&leaf).map_err(Status::unauthenticated)?;
            if id.trust_domain != *trust_domain {
                return Err(Status::unauthenticated(format!(
                    "the certificate's identity {id} is of another trust domain than {trust_domain}"
                )));
            }
            Ok(Some(Caller {
                id,
                proof: "certificate",
            }))
        }
    }
}

fn bearer<T>(request: &Request<T>) -> Result<Option<&str>, Status> {
    let Some(header) = request.metadata().get("authorization") else {
        return Ok(None);
    };
    let text = header
        .to_str()
        .map_err(|_| Status::unauthenticated("the authorization header is no text"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Status::unauthenticated(
            "the authorization header is not `Bearer TOKEN`",
        )),
    }
}

/// The one SPIFFE identity in a certificate.
///
/// # Errors
/// When there is none, or more than one.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|e| format!("client certificate: {e}"))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|e| format!("client certificate: {e}"))?;
    let mut uris = names
        .iter()
        .flat_map(|n| &n.value.general_names)
        .filter_map(|n| match n {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => SpiffeId::parse(uri).ok_or_else(|| {
            format!("client certificate: {uri:?} is no mesh identity (spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/NAME)")
        }),
        (None, _) => Err("client certificate: it names no mesh identity (URI SAN)".to_owned()),
        (Some(_), Some(_)) => Err("client certificate: it names more than one identity".to_owned()),
    }
}
