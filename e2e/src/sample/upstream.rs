//! Calls to other services, as a plain application makes them: host names by the system's resolver, no retries of its own.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Bodies of other services are small; more than this is a mistake.
const MAX_BODY: usize = 16 << 20;

/// An HTTP client.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// How connections are made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Keep connections for the next call.
    pub keep_alive: bool,
    /// HTTP/2 without TLS and without asking first.
    pub http2: bool,
    /// For a whole call.
    pub timeout: Duration,
}

/// Connections as they are asked for, of whatever body.
pub(super) fn http_client<B>(options: Options) -> Client<HttpConnector, B>
where
    B: http_body::Body<Data: Send> + Send,
{
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(options.timeout));
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new());
    builder
        .pool_idle_timeout(Duration::from_secs(30))
        .http2_only(options.http2);
    if !options.keep_alive {
        builder.pool_max_idle_per_host(0);
    }
    builder.build(connector)
}

impl Upstream {
    /// A client.
    pub fn new(options: Options) -> Upstream {
        Upstream {
            client: http_client(options),
            timeout: options.timeout,
        }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// When there is no connection, the answer breaks off, or it takes too long.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let call = async {
            let response = self.client.request(request).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await;
            let body = body
                .map_err(|error| anyhow::anyhow!("answer broke off: {error}"))?
                .to_bytes();
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        };
        tokio::time::timeout(self.timeout, call)
            .await
            .with_context(|| format!("no answer within {:?}", self.timeout))?
    }

    /// `GET` with these headers.
    ///
    /// # Errors
    /// When the URI is none, and as [`Upstream::send`].
    pub async fn get(&self, uri: &str, headers: HeaderMap) -> Result<Answer> {
        let mut request = Request::get(uri)
            .body(Full::new(Bytes::new()))
            .with_context(|| format!("URI {uri:?}"))?;
        *request.headers_mut() = headers;
        self.send(request).await
    }
}
