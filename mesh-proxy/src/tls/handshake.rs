//! Handshakes of either side.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use rustls::server::{Accepted, Acceptor};
use rustls::{CommonState, ProtocolVersion, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsConnector};

use super::CertNames;
use super::verify::take_refusal;
use crate::listener::TlsInfo;
use crate::snapshot::{ClientTls, ServerTls};

/// A stream towards an upstream.
pub type ClientStream<IO> = tokio_rustls::client::TlsStream<IO>;
/// A stream from a caller.
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;

/// Why a handshake came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A secret is not there yet: nobody falls back to plaintext.
    #[error("no TLS yet: waiting for secret {0}")]
    NotReady(String),
    /// The server name to ask for is none.
    #[error("{0:?} cannot be asked for as server name (SNI)")]
    ServerName(String),
    /// We refused the peer's certificate; the text names what it presented and what was expected.
    #[error("TLS handshake failed: {0}")]
    Refused(String),
    /// The caller has to present a certificate and presented none.
    #[error("TLS handshake failed: the peer presented no certificate, and mutual TLS needs one")]
    NoCertificate,
    /// The peer went away in the midst of it: probes of load balancers do.
    #[error("TLS handshake failed: the peer {0} the connection")]
    Gone(&'static str),
    /// The peer does not speak TLS, or refused us; the text says which.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
}

/// Opens TLS towards an upstream on a connected `io`.
///
/// `sni` is the server name to ask for, empty for none; an IP address is never sent, only verified where the context says
/// so. `alpn` is offered in this order, empty for none; what was agreed on is `stream.get_ref().1.alpn_protocol()`.
///
/// # Errors
/// See [`TlsError`]. There is no time limit here: the caller's connect timeout covers the handshake too.
pub async fn connect<IO>(io: IO, tls: &ClientTls, sni: &str, alpn: &[Vec<u8>]) -> Result<ClientStream<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Some(config) = &tls.config else {
        return Err(TlsError::NotReady(tls.secrets.join(", ")));
    };
    let name = server_name(sni)?;
    let connector = TlsConnector::from(config.clone());
    with_refusal(connector.with_alpn(alpn.to_vec()).connect(name, io)).await
}

/// rustls wants a name in any case and sends none for an address.
fn server_name(sni: &str) -> Result<ServerName<'static>, TlsError> {
    if sni.is_empty() {
        return Ok(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()));
    }
    ServerName::try_from(sni.to_owned()).map_err(|_| TlsError::ServerName(sni.to_owned()))
}

/// Terminates TLS of a caller. `hello` is its ClientHello when the inspector has read it already.
///
/// # Errors
/// See [`TlsError`]. The caller sets the time limit.
pub async fn accept<IO>(
    io: IO,
    hello: Option<Box<Accepted>>,
    tls: &ServerTls,
) -> Result<(ServerStream<IO>, TlsInfo), TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Some(config) = &tls.config else {
        return Err(TlsError::NotReady(tls.secrets.join(", ")));
    };
    let start = match hello {
        Some(hello) => StartHandshake::from_parts(*hello, io),
        None => with_refusal(LazyConfigAcceptor::new(Acceptor::default(), io)).await?,
    };
    let config = config_for(config, &start);
    let stream = with_refusal(start.into_stream(config)).await?;
    let info = info(stream.get_ref().1, tls.local_uri.clone());
    Ok((stream, info))
}

/// Without a protocol in common the handshake goes on without ALPN, as with Envoy; rustls would end it with an alert.
fn config_for<IO>(config: &Arc<ServerConfig>, start: &StartHandshake<IO>) -> Arc<ServerConfig>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let hello = start.client_hello();
    let overlap = hello
        .alpn()
        .is_none_or(|mut offered| offered.any(|o| config.alpn_protocols.iter().any(|p| p == o)));
    if overlap || config.alpn_protocols.is_empty() {
        return config.clone();
    }
    let mut without = (**config).clone();
    without.alpn_protocols.clear();
    Arc::new(without)
}

fn info(state: &CommonState, local_uri: Option<Arc<str>>) -> TlsInfo {
    let version = state.protocol_version().map(|version| match version {
        ProtocolVersion::TLSv1_3 => Arc::from("TLSv1.3"),
        ProtocolVersion::TLSv1_2 => Arc::from("TLSv1.2"),
        other => Arc::from(format!("{other:?}")),
    });
    let leaf = state.peer_certificates().and_then(<[_]>::first);
    let names = leaf.map(|leaf| CertNames::of(leaf).unwrap_or_default());
    TlsInfo {
        mutual: names.is_some(),
        peer_uri: names.as_ref().and_then(CertNames::identity).map(Arc::from),
        peer_subject: names.as_ref().map(|n| Arc::from(n.subject.as_str())),
        peer_dns: names
            .iter()
            .flat_map(|n| &n.dns)
            .map(|d| Arc::from(d.as_str()))
            .collect(),
        peer_hash: leaf.map(|leaf| Arc::from(sha256_hex(leaf))),
        local_uri,
        version,
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    use std::fmt::Write as _;
    sha2::Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Runs one step of a handshake; when it fails, the verifier's own words come before rustls's.
async fn with_refusal<T>(step: impl Future<Output = io::Result<T>>) -> Result<T, TlsError> {
    let mut step = pin!(step);
    let mut refusal = None;
    let result = std::future::poll_fn(|cx| {
        let polled = step.as_mut().poll(cx);
        // Another handshake of this thread may be polled before this one again.
        refusal = take_refusal().or(refusal.take());
        match polled {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    result.map_err(|error| refusal.map_or_else(|| explain(&error), TlsError::Refused))
}

/// The usual causes in an operator's words.
fn explain(error: &io::Error) -> TlsError {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => return TlsError::Gone("closed"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return TlsError::Gone("reset"),
        _ => match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::NoCertificatesPresented) => return TlsError::NoCertificate,
            Some(rustls::Error::InvalidMessage(_)) => {
                format!("the peer does not speak TLS ({error}); is the port plaintext, or the peer outside the mesh?")
            }
            Some(rustls::Error::AlertReceived(alert)) => format!("the peer refused us with alert {alert:?}"),
            _ => error.to_string(),
        },
    };
    TlsError::Handshake(text)
}
