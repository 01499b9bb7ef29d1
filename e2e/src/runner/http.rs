//! HTTP requests from the host, or from inside a pod's namespace.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;

use crate::netns::enter;

const MAX_BODY: usize = 64 << 20;

/// What to send.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Where the connection goes, whatever the authority says.
    pub to: SocketAddr,
    /// `Host`.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// Other headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// For the whole call.
    pub timeout: Duration,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

impl Call {
    /// A `GET`.
    pub fn get(to: SocketAddr, path: &str) -> Call {
        Call {
            method: Method::GET,
            to,
            authority: to.to_string(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Sends a request over a connection of its own, from a namespace or from here. May be called from anywhere: it works on
/// a thread of its own.
///
/// # Errors
/// When there is no connection, no whole answer, or no answer in time.
pub fn send(from: Option<&Path>, call: Call) -> Result<Answer> {
    let stream = enter::connect(from, call.to, call.timeout)?;
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let timeout = call.timeout;
        runtime.block_on(async {
            let exchange = tokio::time::timeout(timeout, exchange(stream, call)).await;
            exchange.with_context(|| format!("no answer within {timeout:?}"))?
        })
    })?;
    thread.join().map_err(|_| anyhow!("the request's thread panicked"))?
}

async fn exchange(stream: std::net::TcpStream, call: Call) -> Result<Answer> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = call.method;
    *request.uri_mut() = call
        .path
        .parse::<Uri>()
        .with_context(|| format!("path {:?}", call.path))?;
    let headers = request.headers_mut();
    headers.insert(http::header::HOST, HeaderValue::try_from(call.authority)?);
    for (name, value) in call.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body
            .map_err(|error| anyhow!("the answer broke off: {error}"))?
            .to_bytes(),
    })
}
