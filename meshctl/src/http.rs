//! One HTTP request over a stream that is connected already: a socket, or a port-forward.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Status.
    pub(crate) status: StatusCode,
    /// All of the body.
    pub(crate) body: Bytes,
}

impl Reply {
    /// The body of a good answer.
    ///
    /// # Errors
    /// With what the other side says, for any status but 2xx.
    pub(crate) fn good(self) -> Result<Bytes> {
        if !self.status.is_success() {
            bail!(
                "answered {}: {}",
                self.status,
                String::from_utf8_lossy(&self.body).trim()
            );
        }
        Ok(self.body)
    }

    /// The body of a good answer as text.
    pub(crate) fn text(self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.good()?).into_owned())
    }

    /// The body of a good answer as JSON.
    pub(crate) fn json(self) -> Result<Value> {
        serde_json::from_slice(&self.good()?).context("the answer is no JSON")
    }
}

/// Asks over `stream`, which serves this request alone. `host` is what the other side takes itself for; `token` proves who
/// asks.
pub(crate) async fn ask<S>(
    stream: S,
    method: Method,
    host: &str,
    path: &str,
    token: Option<&HeaderValue>,
) -> Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .with_context(|| format!("{path:?} is no path"))?;
    if let Some(token) = token {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
    }
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driven = tokio::spawn(connection);
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Reply { status, body })
        };
        let answer = answer.await;
        driven.abort();
        answer
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .with_context(|| format!("no answer to {path} within {TIMEOUT:?}"))?
        .with_context(|| format!("no answer to {path}"))
}
