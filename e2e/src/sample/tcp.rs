//! TCP echo, with a prefix before each piece if one is given (as Istio's tcp-echo has it).

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Binds an address and answers there from now on.
///
/// # Errors
/// When the address cannot be bound.
pub async fn spawn(address: &str, prefix: String) -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("TCP echo on {address}"))?;
    let bound = listener.local_addr()?;
    tracing::info!("TCP echo on {bound}");
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(echo(stream, prefix.clone()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    Ok(bound)
}

async fn echo(mut stream: TcpStream, prefix: String) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let piece = buffer.get(..length).unwrap_or_default();
        let mut out = Vec::with_capacity(prefix.len() + 1 + length);
        if !prefix.is_empty() {
            out.extend_from_slice(prefix.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(piece);
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}
