//! `istio.v1.auth.IstioCertificateService`: a signing request in, a chain out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_api::ca::istio_certificate_service_server::IstioCertificateService;
use mesh_api::ca::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::authority::{Authority, SignError};
use super::caller::Callers;

/// What an unproven caller is told.
pub const HOW_TO_PROVE: &str = "who are you? Send `authorization: Bearer TOKEN` (a token of `mesh-control token \
     --service-account NAMESPACE/NAME`), or connect with your present mesh certificate";

/// The service.
#[derive(Clone)]
pub struct CertificateService {
    /// Signs.
    pub authority: Arc<Authority>,
    /// Proves.
    pub callers: Callers,
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        metrics::counter!("citadel_server_csr_count").increment(1);
        let peer = request.remote_addr().map(|a| a.to_string()).unwrap_or_default();
        let caller = self
            .callers
            .prove(&request)
            .await
            .and_then(|caller| caller.ok_or_else(|| Status::unauthenticated(HOW_TO_PROVE)));
        let caller = caller.inspect_err(|status| {
            metrics::counter!("citadel_server_authentication_failure_count").increment(1);
            warn!(%peer, reason = status.message(), "certificate refused: caller not proven");
        })?;
        let request = request.into_inner();
        let ttl = match request.validity_duration {
            0 => None,
            seconds => Some(Duration::from_secs(u64::try_from(seconds).map_err(|_| {
                Status::invalid_argument(format!("validity_duration {seconds} is negative"))
            })?)),
        };
        // Signing takes well under a millisecond; an RSA key of the user's own CA may take a few.
        let authority = self.authority.clone();
        let id = caller.id.clone();
        let signed = tokio::task::spawn_blocking(move || authority.sign(&request.csr, &id, ttl, SystemTime::now()))
            .await
            .map_err(|e| Status::internal(format!("signing was cut off: {e}")))?;
        match signed {
            Ok(cert_chain) => {
                metrics::counter!("citadel_server_success_cert_issuance_count").increment(1);
                info!(%peer, identity = %caller.id, proof = caller.proof, "certificate signed");
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err(error) => {
                warn!(%peer, identity = %caller.id, %error, "certificate refused");
                Err(match error {
                    SignError::Request(text) => {
                        metrics::counter!("citadel_server_csr_parsing_err_count").increment(1);
                        Status::invalid_argument(text)
                    }
                    SignError::Internal(text) => {
                        metrics::counter!("citadel_server_csr_sign_err_count").increment(1);
                        Status::internal(text)
                    }
                })
            }
        }
    }
}
