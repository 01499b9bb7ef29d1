//! The codec of one connection from a caller.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Downstream;
use super::downstream::Order;
use super::gather::Gather;
use super::handle::handle;
use super::watched::Watched;
use crate::listener::{ConnInfo, Prefixed};
use crate::snapshot::{Codec, HttpConnectionManager};
use crate::upstream::LocalExec;
use crate::worker::Worker;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Read at once to tell the two versions apart: as much as hyper reads. After less, it would take a buffer of twice the
/// size for the rest of a head, and keep it.
const FIRST_READ: usize = 8 * 1024;

/// Headers of one message, Envoy's default for `max_headers_count`.
pub(super) const MAX_HEADERS: usize = 100;

/// Bounds of what a stream of HTTP/2 may hold for its caller; between them `per_connection_buffer_limit_bytes` says.
const SEND_BUFFER: (usize, usize) = (64 * 1024, 400 * 1024);

/// Serves one downstream connection until it ends.
///
/// `io` is the plaintext side (after TLS termination, with inspected bytes put back).
pub async fn serve_connection<I>(io: I, conn: Rc<ConnInfo>, manager: Arc<HttpConnectionManager>, worker: Rc<Worker>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let conn = Downstream::new(conn, manager, worker);
    let io = Watched::new(io, conn.watch.clone());
    let codec = conn.manager().codec;
    let known = match (codec, conn.info.alpn.as_deref()) {
        (Codec::Http1, _) => Some(false),
        (Codec::Http2, _) => Some(true),
        (Codec::Auto, Some(b"h2" | b"istio-h2")) => Some(true),
        // By TLS without ALPN, or with Istio's own names, the bytes decide as they do on plaintext.
        (Codec::Auto, _) => None,
    };
    match known {
        Some(true) => serve_http2(io, conn).await,
        Some(false) => serve_http1(io, conn).await,
        None => match detect(io, &conn).await {
            Ok((io, true)) => serve_http2(io, conn).await,
            Ok((io, false)) => serve_http1(io, conn).await,
            Err(_) => {}
        },
    }
}

/// Reads until it is clear whether this is HTTP/2.
async fn detect<I>(mut io: I, conn: &Downstream) -> io::Result<(Prefixed<I>, bool)>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut seen = Vec::new();
    let http2 = poll_fn(|cx| {
        loop {
            if conn.order(cx) != Order::Serve {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let mut first = [MaybeUninit::uninit(); FIRST_READ];
            let mut buf = ReadBuf::uninit(&mut first);
            ready!(Pin::new(&mut io).poll_read(cx, &mut buf))?;
            seen.extend_from_slice(buf.filled());
            let known = seen.len().min(PREFACE.len());
            if buf.filled().is_empty() || seen[..known] != PREFACE[..known] {
                return Poll::Ready(io::Result::Ok(false));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Ok(true));
            }
        }
    })
    .await?;
    Ok((Prefixed::new(Bytes::from(seen), io), http2))
}

async fn serve_http1<I>(io: I, conn: Rc<Downstream>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let manager = conn.manager();
    conn.stats().downstream_cx_http1_total.inc();
    let limit = manager.max_request_headers_kb as usize * 1024;
    let mut builder = http1::Builder::new();
    builder
        .preserve_header_case(true)
        // As in Envoy, whoever closes its side waits for no answer: what is under way for it ends at once.
        .half_close(false)
        .max_headers(MAX_HEADERS)
        .max_header_size(limit)
        .max_buf_size((limit + 1024).max(64 * 1024))
        // Hyper's would run on idle connections too; see `Downstreams::tend`.
        .header_read_timeout(None);
    let service = {
        let conn = conn.clone();
        service_fn(move |request| boxed(handle(conn.clone(), request)))
    };
    let serving = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    let mut serving = pin!(serving);
    let result = drive(&conn, |cx, shut| {
        if shut {
            serving.as_mut().graceful_shutdown();
        }
        serving.as_mut().poll(cx)
    })
    .await;
    report(&conn, result);
}

async fn serve_http2<I>(io: I, conn: Rc<Downstream>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let manager = conn.manager();
    let stats = conn.stats();
    stats.downstream_cx_http2_total.inc();
    conn.speaks_http2.set(true);
    let options = &manager.http2;
    let mut builder = http2::Builder::new(LocalExec);
    builder
        .initial_stream_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(manager.max_request_headers_kb.saturating_mul(1024))
        // What waits for a caller that reads slowly, of each stream.
        .max_send_buf_size(conn.info.listener.buffer_limit.clamp(SEND_BUFFER.0, SEND_BUFFER.1))
        .enable_connect_protocol();
    if let Some((interval, timeout)) = options.keep_alive {
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(timeout);
    }
    let service = {
        let conn = conn.clone();
        service_fn(move |request| boxed(handle(conn.clone(), request)))
    };
    let io = Gather::new(io);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io.clone()), service));
    let result = drive(&conn, |cx, shut| {
        if shut {
            serving.as_mut().graceful_shutdown();
        }
        let polled = serving.as_mut().poll(cx);
        io.settle(cx);
        polled
    })
    .await;
    report(&conn, result);
}

/// A request's future by itself: hyper would keep its place while the connection is idle, and moves it a few times.
fn boxed<F: Future>(handling: F) -> Pin<Box<F>> {
    Box::pin(handling)
}

/// Polls a codec until it ends; tells it once when the connection is to be shut.
async fn drive(
    conn: &Downstream,
    mut poll: impl FnMut(&mut Context<'_>, bool) -> Poll<hyper::Result<()>>,
) -> hyper::Result<()> {
    let mut told = false;
    poll_fn(|cx| {
        loop {
            let order = conn.order(cx);
            if order == Order::Cut {
                return Poll::Ready(Ok(()));
            }
            let tell = order == Order::Shut && !told;
            told |= tell;
            let polled = poll(cx, tell);
            // A request that was served just now may have asked for the end.
            if polled.is_ready() || told || conn.order(cx) == Order::Serve {
                return polled;
            }
        }
    })
    .await
}

fn report(conn: &Downstream, result: hyper::Result<()>) {
    conn.codec_ended();
    let Err(error) = result else { return };
    if error.is_parse() {
        conn.stats().downstream_cx_protocol_error.inc();
    }
    tracing::debug!(remote = %conn.info.remote, listener = %conn.info.listener.name, "connection ended: {error}");
}
