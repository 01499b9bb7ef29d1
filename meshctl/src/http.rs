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

/// `HOST:PORT` as people write it: with `http://` before, a slash behind, or without the port.
pub(crate) fn address(text: &str, usual: u16) -> Result<String, String> {
    let inner = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let help = || format!("{text:?} is no address; write HOST:PORT, such as 127.0.0.1:{usual}");
    let complete = match inner.rsplit_once(':') {
        // The colons of an IPv6 address in brackets are its own.
        Some((_, rest)) if rest.ends_with(']') => format!("{inner}:{usual}"),
        None => format!("{inner}:{usual}"),
        Some(_) => inner.to_owned(),
    };
    let authority: http::uri::Authority = complete.parse().map_err(|_| help())?;
    match (authority.host(), authority.port_u16()) {
        ("", _) | (_, None) => Err(help()),
        _ => Ok(complete),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (text, expected) in [
            ("127.0.0.1:15000", "127.0.0.1:15000"),
            ("http://127.0.0.1:1/", "127.0.0.1:1"),
            ("localhost", "localhost:15000"),
            ("[::1]", "[::1]:15000"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(address(text, 15000).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["", ":15000", "a b", "host:port", "host:99999", "https://a", "a/b"] {
            assert!(address(bad, 15000).is_err(), "{bad}");
        }
    }
}
