//! A small HTTP/1.1 server for the few pages of the control thread.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, SERVER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{Port, State, router, status};

/// Connections at one time on one port. Some of these ports are open to the network: far more than scrapers and people
/// open, so that somebody who holds connections open does not easily make a probe fail.
const MAX_CONNECTIONS: usize = 512;
/// For a request's header, and for the next one on a connection that is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// When accepting fails (no file descriptors left), before the next try.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

pub(super) const TEXT: &str = "text/plain; charset=UTF-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=UTF-8";

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Reply {
            status,
            content_type: TEXT,
            body: body.into(),
        }
    }

    pub(super) fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Reply {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
        }
    }

    pub(super) fn done() -> Self {
        Self::text(StatusCode::OK, "OK\n")
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::text(StatusCode::BAD_REQUEST, message.into() + "\n")
    }
}

/// What a handler needs of a request; bodies are not read.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) peer: SocketAddr,
}

impl Call {
    /// The first value of a query parameter; empty when it has none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// Accepts until the runtime ends.
pub(super) async fn serve(port: Port, listener: TcpListener, state: Arc<State>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(?port, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(port, peer, request, &state));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            if let Err(error) = connection.await {
                tracing::debug!(?port, %peer, %error, "connection ended");
            }
            drop(slot);
        });
    }
}

async fn answer(
    port: Port,
    peer: SocketAddr,
    request: Request<Incoming>,
    state: &Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let reply = match refuse(port, request.headers(), state) {
        Some(reason) => Reply::text(StatusCode::FORBIDDEN, reason),
        None => {
            let call = Call {
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                query: query(request.uri().query().unwrap_or_default()),
                headers: request.headers().clone(),
                peer,
            };
            match port {
                Port::Admin => router::handle(&call, state).await,
                _ => status::handle(port, &call, state).await,
            }
        }
    };
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(SERVER, HeaderValue::from_static("envoy"));
    Ok(response)
}

/// A page in somebody's browser must not reach the admin API: neither through a name that was made to resolve to
/// loopback (such a request carries that name as its host), nor by a form (such a request carries its origin).
fn refuse(port: Port, headers: &HeaderMap, state: &State) -> Option<&'static str> {
    if port != Port::Admin {
        return None;
    }
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let host = text(HOST);
    let local = state.options.admin.is_some_and(|a| a.ip().is_loopback());
    if local && !host.is_none_or(is_local_name) {
        return Some("the admin API answers only requests whose host is an IP address or localhost\n");
    }
    if let Some(origin) = text(ORIGIN) {
        let same = origin.split_once("://").is_some_and(|(_, origin)| Some(origin) == host);
        if !same {
            return Some("the admin API does not answer requests of other sites\n");
        }
    }
    None
}

fn is_local_name(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return !address.ip().is_unspecified();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// Pairs of a query string, percent decoded.
fn query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let hex = rest.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match (first, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                bytes = &rest[2..];
            }
            // `+` stays: it stands in regular expressions, which Envoy reads unescaped too.
            _ => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let expected = [("filter", "a|b+"), ("usedonly", "")];
        let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(query("filter=a%7Cb+&usedonly&"), expected);
        assert_eq!(decode("%zz%4"), "%zz%4");
    }

    #[test]
    fn hosts_that_a_browser_cannot_be_tricked_into() {
        for good in [
            "localhost:15000",
            "127.0.0.1:15000",
            "[::1]:15000",
            "127.0.0.1",
            "LOCALHOST",
        ] {
            assert!(is_local_name(good), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:15000",
            "localhost.evil.example",
            "127.0.0.1.nip.io:15000",
        ] {
            assert!(!is_local_name(bad), "{bad}");
        }
    }
}
