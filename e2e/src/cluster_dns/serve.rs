//! Sockets: questions by UDP and TCP, and the two checks of the Deployment.

use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::Shared;
use super::answer::{Transport, answer};

/// A client by TCP that asks nothing for so long is left.
const IDLE: Duration = Duration::from_secs(10);

/// Whether the objects were read once.
#[derive(Debug, Clone, Default)]
pub(super) struct Health(Arc<AtomicBool>);

impl Health {
    /// Says that they were.
    pub(super) fn ready(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) async fn udp(port: u16, names: Shared, ttl: u32) -> Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("UDP port {port}"))?;
    let mut buffer = vec![0; 4096];
    loop {
        // An error is an earlier answer's that found nobody: it is nothing to this question.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let now = Arc::clone(&names.read());
        let reply = buffer
            .get(..length)
            .and_then(|query| answer(query, &now, ttl, Transport::Udp));
        if let Some(reply) = reply {
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

pub(super) async fn tcp(port: u16, names: Shared, ttl: u32) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("TCP port {port}"))?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let names = Arc::clone(&names);
        tokio::spawn(async move {
            let _ = conversation(stream, &names, ttl).await;
        });
    }
}

async fn conversation(mut stream: TcpStream, names: &Shared, ttl: u32) -> Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        tokio::time::timeout(IDLE, stream.read_exact(&mut query)).await??;
        let now = Arc::clone(&names.read());
        let Some(reply) = answer(&query, &now, ttl, Transport::Tcp) else {
            return Ok(());
        };
        stream.write_u16(u16::try_from(reply.len())?).await?;
        stream.write_all(&reply).await?;
    }
}

/// Answers 200 to one path; `waits` for the objects first.
pub(super) async fn http(port: u16, path: &'static str, health: Health, waits: bool) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("TCP port {port}"))?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let health = health.clone();
        tokio::spawn(async move {
            let check = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (status, text) = if request.uri().path() != path {
                    (StatusCode::NOT_FOUND, "")
                } else if waits && !health.0.load(Ordering::Relaxed) {
                    (StatusCode::SERVICE_UNAVAILABLE, "kubernetes")
                } else {
                    (StatusCode::OK, "OK")
                };
                let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
                *response.status_mut() = status;
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), check).await;
        });
    }
}
