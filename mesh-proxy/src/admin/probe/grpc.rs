//! Probes by gRPC's health protocol (`grpc.health.v1.Health/Check`), without TLS as the kubelet's.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

use super::ask;
use crate::admin::server::Reply;

/// An answer is a few bytes.
const MAX_BODY: usize = 64 * 1024;
/// `ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct CheckRequest {
    /// Empty for the server as a whole.
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct CheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// 200 if the service is serving, 500 if it says that it is not.
pub(super) async fn check(address: SocketAddr, service: &str) -> anyhow::Result<Reply> {
    let stream = ask::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let message = CheckRequest {
        service: service.to_owned(),
    };
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "kube-probe/ferromesh")
        .body(Full::new(framed(&message)))?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        bail!("HTTP status {}", response.status());
    }
    failed(response.headers())?;
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    connection.abort();
    let body = body.map_err(|e| anyhow::anyhow!("body: {e}"))?;
    if let Some(trailers) = body.trailers() {
        failed(trailers)?;
    }
    let body = body.to_bytes();
    // One message: whether it is compressed, and its length.
    let message = body
        .get(5..)
        .filter(|_| body.first() == Some(&0))
        .context("no answer to read")?;
    match CheckResponse::decode(message)?.status {
        SERVING => Ok(Reply::text(StatusCode::OK, "")),
        other => bail!("service {service:?} is not serving (status {other})"),
    }
}

pub(super) fn framed(message: &impl Message) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    out.extend_from_slice(&message.encode_to_vec());
    out.freeze()
}

fn failed(headers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "" | "0" => Ok(()),
        "12" => bail!("the application has no gRPC health service (grpc.health.v1.Health)"),
        code => bail!("gRPC status {code}: {}", text("grpc-message")),
    }
}
