//! Clients, and what they see.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::harness::{Body, full};
use crate::testing::soon;

/// What a client sees.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) trailers: Option<HeaderMap>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-")
    }

    /// A line of what [`Origin::echo`] says.
    pub(super) fn echoed(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.body.lines().find_map(|l| l.strip_prefix(&prefix)).unwrap_or("-")
    }
}

/// A client connection of either version.
pub(super) enum Client {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Client {
    pub(super) async fn connect(address: SocketAddr, version: Version) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.expect("connect"));
        if version == Version::HTTP_2 {
            let (sender, conn) = http2::handshake(TokioExecutor::new(), io).await.expect("handshake");
            tokio::spawn(conn);
            Client::Http2(sender)
        } else {
            let (sender, conn) = http1::handshake(io).await.expect("handshake");
            tokio::spawn(conn.with_upgrades());
            Client::Http1(sender)
        }
    }

    pub(super) async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Client::Http1(sender) => {
                sender.ready().await?;
                let authority = request.uri().authority().map(ToString::to_string);
                if let Some(authority) = authority
                    && request.method() != Method::CONNECT
                {
                    request
                        .headers_mut()
                        .entry("host")
                        .or_insert(authority.parse().expect("a host"));
                    let path = request.uri().path_and_query().cloned().expect("a path");
                    *request.uri_mut() = path.into();
                }
                soon("response", sender.send_request(request)).await
            }
            Client::Http2(sender) => soon("response", sender.send_request(request)).await,
        }
    }

    pub(super) async fn seen(&mut self, request: Request<Body>) -> Seen {
        let what = format!("{} {}", request.method(), request.uri());
        match self.send(request).await {
            Ok(response) => read(response).await,
            Err(error) => panic!("{what}: {error:?}"),
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> Seen {
        self.seen(get(path)).await
    }
}

/// All of these are answered with 200.
pub(super) async fn all_answered(asking: impl IntoIterator<Item = JoinHandle<Seen>>) {
    for asked in asking {
        assert_eq!(asked.await.expect("a task").status, 200);
    }
}

/// Reads a response to its end.
pub(super) async fn read(response: Response<Incoming>) -> Seen {
    let (parts, body) = response.into_parts();
    let collected = soon("body", body.collect()).await.expect("a body");
    let trailers = collected.trailers().cloned();
    Seen {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&collected.to_bytes()).into_owned(),
        trailers,
    }
}

pub(super) fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://test.local{path}"))
        .body(full(""))
        .expect("a request")
}

pub(super) fn post(path: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::post(format!("http://test.local{path}"))
        .body(full(body))
        .expect("a request")
}

/// Sends bytes and reads until the proxy closes the connection; half-closes when `end` is set.
pub(super) async fn raw(address: SocketAddr, bytes: &[u8], end: bool) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(bytes).await.expect("write");
    if end {
        stream.shutdown().await.expect("shutdown");
    }
    let mut answer = Vec::new();
    let _ = soon("the connection to be closed", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
