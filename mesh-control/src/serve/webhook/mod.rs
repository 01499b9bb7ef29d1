//! Port 15017: what the API server asks before it stores an object.
//!
//! - [`injection`]: which proxy a Pod gets.
//! - [`validate`]: whether an object of Istio's is as the compile step wants it.

pub(super) mod injection;
mod validate;

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;

use super::model::Model;
use crate::inject::review;

/// The API server sends no more (etcd takes 1.5 MiB), and an update holds two objects.
const MAX_BODY: usize = review::MAX_BODY;
/// The API server gives up after 10 seconds, unless the configuration says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// By ALPN: HTTP/1.1 is enough for a single client.
pub(super) const PROTOCOL: &[u8] = b"http/1.1";

/// Whether proxies are injected as init containers that go on running (`restartPolicy: Always`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NativeSidecars {
    /// Where all nodes run Kubernetes 1.29 or newer.
    Auto,
    /// Always; nodes of Kubernetes 1.28 need its feature gate `SidecarContainers`.
    True,
    /// Never.
    False,
}

/// What is needed to answer.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) model: Model,
    pub(super) native_sidecars: NativeSidecars,
}

/// Answers until the connections end.
pub(super) async fn serve(
    mut connections: ReceiverStream<std::io::Result<TlsStream<TcpStream>>>,
    answers: Answers,
) -> Result<()> {
    while let Some(stream) = connections.next().await {
        let Ok(stream) = stream else { continue };
        let answers = answers.clone();
        tokio::spawn(async move {
            let service = service_fn(async |request| Ok::<_, Infallible>(answer(&answers, request).await));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%error, "webhook connection");
            }
        });
    }
    Ok(())
}

async fn answer(answers: &Answers, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if head.method != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview here\n");
    }
    let injects = path == "/inject" || path.starts_with("/inject/");
    if !injects && path != "/validate" {
        return text(StatusCode::NOT_FOUND, "there are /inject and /validate\n");
    }
    let body = match tokio::time::timeout(PATIENCE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            return text(
                StatusCode::BAD_REQUEST,
                &format!("the review cannot be read: {error}\n"),
            );
        }
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the review did not come\n"),
    };
    if injects {
        let snapshot = answers.model.present();
        return match injection::injected(&snapshot, answers.native_sidecars, path, &body) {
            Ok(answer) => json_of(answer),
            // The API server's failure policy decides: the chart's lets no Pod start without its proxy.
            Err(message) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{message}\n")),
        };
    }
    match reviewed(&body, validate::review) {
        Ok(answer) => json_of(answer.to_string().into_bytes()),
        Err(message) => text(StatusCode::BAD_REQUEST, &format!("{message}\n")),
    }
}

fn json_of(body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// What is said of an object.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    /// Why it is refused.
    refused: Option<String>,
    /// What its author should know.
    warnings: Vec<String>,
}

/// An `AdmissionReview` with the answer to another, in the same version.
fn reviewed(body: &[u8], review: fn(&Value) -> Verdict) -> Result<Value, String> {
    let asked: Value = serde_json::from_slice(body).map_err(|e| format!("the review is no JSON: {e}"))?;
    let request = &asked["request"];
    let uid = request["uid"].as_str().ok_or("the review has no request.uid")?;
    let verdict = review(request);
    let mut response = json!({"uid": uid, "allowed": verdict.refused.is_none()});
    if let Some(message) = verdict.refused {
        response["status"] = json!({"code": 422, "reason": "Invalid", "message": message});
    }
    // Known since Kubernetes 1.19, and left out where nobody reads them.
    if !verdict.warnings.is_empty() && asked["apiVersion"] == "admission.k8s.io/v1" {
        response["warnings"] = verdict.warnings.into();
    }
    Ok(json!({"apiVersion": asked["apiVersion"], "kind": "AdmissionReview", "response": response}))
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_in_the_version_of_the_question() {
        let ask = |version: &str, host: Value| {
            let review = json!({"apiVersion": version, "kind": "AdmissionReview", "request": {"uid": "1", "operation": "CREATE",
                "object": {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
                    "metadata": {"name": "a", "namespace": "shop"}, "spec": {"host": host}}}});
            reviewed(review.to_string().as_bytes(), validate::review).expect("an answer")
        };
        for version in ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"] {
            let good = ask(version, json!("web"));
            assert_eq!(
                (&good["apiVersion"], &good["response"]["allowed"]),
                (&json!(version), &json!(true))
            );
            let bad = ask(version, json!(7));
            assert_eq!(bad["response"]["allowed"], false);
            let message = bad["response"]["status"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("spec.host"), "{bad}");
        }
        for broken in ["", "{}", "[1]", "{\"request\": {\"uid\": 7}}"] {
            assert!(reviewed(broken.as_bytes(), validate::review).is_err(), "{broken}");
        }
    }
}
