//! Upgraded connections: WebSocket and its like, CONNECT. After the handshake, bytes pass both ways until both sides are done.

use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::response_body::ResponseBody;
use super::stream::Stream;
use super::upstream_request::{ActiveRequest, Upgrade};
use crate::tcp::{ByteStream, End, Totals, copy_both};
use crate::telemetry::ResponseFlags;
use crate::upstream::Lease;

/// Whether the upstream agreed.
pub(super) fn is_granted(response: &Response<Incoming>, upgrade: &Upgrade, http2: bool) -> bool {
    match upgrade {
        Upgrade::No => false,
        Upgrade::Token(_) if !http2 => response.status() == StatusCode::SWITCHING_PROTOCOLS,
        Upgrade::Token(_) | Upgrade::Connect => response.status().is_success(),
    }
}

/// Puts an upgrade into the form of HTTP/1.1, whichever version it came by.
pub(super) fn as_http1(token: &str, headers: &mut HeaderMap) {
    headers
        .entry(header::CONNECTION)
        .or_insert(HeaderValue::from_static("upgrade"));
    if !headers.contains_key(header::UPGRADE)
        && let Ok(token) = HeaderValue::from_str(token)
    {
        headers.insert(header::UPGRADE, token);
    }
    if token == "websocket" && !headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        if let Ok(key) = HeaderValue::try_from(key) {
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
    }
}

/// The answer to a WebSocket key (RFC 6455, 4.2.2): proof that the handshake was understood, not a secret.
fn websocket_accept(key: &HeaderValue) -> Option<HeaderValue> {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let text = [key.as_bytes(), GUID].concat();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::try_from(STANDARD.encode(digest)).ok()
}

/// The two ends of an upgrade, and what is held as long as bytes pass.
pub(super) struct Ends<'a> {
    pub(super) upgrade: &'a Upgrade,
    /// The caller's connection.
    pub(super) caller: OnUpgrade,
    /// The caller's `sec-websocket-key`, over HTTP/1.
    pub(super) key: Option<HeaderValue>,
    pub(super) lease: Lease,
    pub(super) active: ActiveRequest,
    pub(super) idle: Option<Duration>,
}

/// Answers the caller and connects both sides.
pub(super) fn tunnel(stream: &Rc<Stream>, mut response: Response<Incoming>, ends: Ends<'_>) -> Response<ResponseBody> {
    let Ends {
        upgrade,
        caller,
        key,
        lease,
        active,
        idle,
    } = ends;
    let upstream = hyper::upgrade::on(&mut response);
    stream.tunneled.set(true);
    let http2 = stream.note(|r| r.version) == Version::HTTP_2;
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::TRANSFER_ENCODING);
    match upgrade {
        Upgrade::Token(token) if !http2 => {
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            if !parts.headers.contains_key(header::UPGRADE)
                && let Ok(token) = HeaderValue::from_str(token)
            {
                parts.headers.insert(header::UPGRADE, token);
            }
            // An upstream over HTTP/2 was asked without a key and gave no proof.
            if lease.is_http2()
                && let Some(accept) = key.as_ref().and_then(websocket_accept)
            {
                parts.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
        }
        Upgrade::No | Upgrade::Token(_) | Upgrade::Connect => {
            parts.status = StatusCode::OK;
            for name in [
                header::CONNECTION,
                header::UPGRADE,
                header::CONTENT_LENGTH,
                header::SEC_WEBSOCKET_ACCEPT,
            ] {
                parts.headers.remove(name);
            }
        }
    }
    let held = stream.clone();
    tokio::task::spawn_local(async move {
        match tokio::try_join!(caller, upstream) {
            Ok((caller, upstream)) => pass(&held, TokioIo::new(caller), TokioIo::new(upstream), idle).await,
            Err(error) => {
                tracing::debug!("upgrade failed: {error}");
                held.flag(ResponseFlags::UPSTREAM_CONNECTION_TERMINATION, "upgrade_failed");
            }
        }
        held.request_finished();
        held.response_finished();
        drop((lease, active));
    });
    Response::from_parts(parts, ResponseBody::whole(Bytes::new(), stream))
}

/// Passes bytes both ways until both sides are done, or nothing moves for too long.
async fn pass<A, B>(stream: &Stream, caller: A, upstream: B, idle: Option<Duration>)
where
    A: ByteStream,
    B: ByteStream,
{
    let totals = Totals::default();
    let limit = stream.conn.info.listener.buffer_limit;
    let end = copy_both(caller, upstream, &totals, idle, limit).await;
    stream.note(|r| {
        r.bytes_received += totals.received.get();
        r.bytes_sent += totals.sent.get();
    });
    match end {
        End::Done => {}
        End::Idle => {
            stream.stats.downstream_rq_idle_timeout.inc();
            stream.flag(ResponseFlags::STREAM_IDLE_TIMEOUT, "stream_idle_timeout");
        }
        End::Downstream(_) | End::Upstream(_) => stream.note(|r| {
            if r.flags.is_empty() {
                r.termination_details = Some("upgraded connection was reset".into());
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websocket_proof() {
        // The example of RFC 6455.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(websocket_accept(&key).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
