//! `TcpProxy.tunneling_config`: the bytes of a connection inside an HTTP CONNECT (RFC 9110, 9.3.6), which a proxy on the way takes
//! on to the host that is asked for.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest answer to a CONNECT.
const LONGEST: usize = 16 * 1024;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    #[error("the proxy on the way broke off: {0}")]
    Io(#[from] io::Error),
    #[error("the proxy on the way refuses to connect to {host}: {answer:?}")]
    Refused { host: String, answer: String },
    #[error("the answer to CONNECT does not end within {LONGEST} bytes")]
    TooLong,
}

/// Asks for a tunnel to `host` (`name:port`) and reads the answer, of which nothing is left over.
pub(super) async fn open<S>(stream: &mut S, host: &str) -> Result<(), TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    // Byte by byte, once in a connection's life: what follows the head is the other side's already.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST {
            return Err(TunnelError::TooLong);
        }
        head.push(stream.read_u8().await?);
    }
    let first = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let answer = String::from_utf8_lossy(first).into_owned();
    let mut words = answer.split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|s| s.parse::<u16>().ok());
    if version.starts_with("HTTP/1.") && status.is_some_and(|s| (200..300).contains(&s)) {
        return Ok(());
    }
    Err(TunnelError::Refused {
        host: host.to_owned(),
        answer,
    })
}
