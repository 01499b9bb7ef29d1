//! Port 15017: what the API server asks before it stores an object.
//!
//! - [`validate`]: whether an object of Istio's is as the compile step wants it.

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

/// The API server sends no more (etcd takes 1.5 MiB), and an update holds two objects.
const MAX_BODY: usize = 8 << 20;
/// The API server gives up after 10 seconds, unless the configuration says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// ConfigMap with the injector's settings.
pub(super) const INJECTOR: &str = "istio-sidecar-injector";

/// By ALPN: HTTP/1.1 is enough for a single client.
pub(super) const PROTOCOL: &[u8] = b"http/1.1";

/// Answers until the connections end.
pub(super) async fn serve(mut connections: ReceiverStream<std::io::Result<TlsStream<TcpStream>>>) -> Result<()> {
    while let Some(stream) = connections.next().await {
        let Ok(stream) = stream else { continue };
        tokio::spawn(async move {
            let service = service_fn(async |request| Ok::<_, Infallible>(answer(request).await));
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

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if head.method != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview here\n");
    }
    let review: fn(&Value) -> Verdict = match path {
        "/validate" => validate::review,
        _ => return text(StatusCode::NOT_FOUND, "there are /validate\n"),
    };
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
    match reviewed(&body, review) {
        Ok(answer) => {
            let mut response = Response::new(Full::new(answer.to_string().into()));
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(message) => text(StatusCode::BAD_REQUEST, &format!("{message}\n")),
    }
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
