//! Opening a connection to an endpoint.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::UpstreamIo;
use super::io::ConnectionGuard;
use super::mark::mark;
use super::proxy_header::{self, Proxied};
use crate::snapshot::{Cluster, Endpoint};
use crate::tcp::ReadAhead;
use crate::tls::{self, ClientStream, TlsError};
use crate::worker::Worker;

/// What a connection needs beside its cluster and endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectOptions<'a> {
    /// Server name to ask for when the TLS context names none (`auto_sni`).
    pub server_name: Option<&'a str>,
    /// ALPN to offer.
    pub alpn: AlpnOffer,
    /// Whom a PROXY header names.
    pub proxied: Option<Proxied>,
    /// Open it even when the cluster has as many connections as it may.
    pub force: bool,
    /// Whoever wants it has asked before, and is counted in `upstream_cx_overflow` already.
    pub again: bool,
}

/// Application protocols to offer on TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum AlpnOffer {
    /// What the TLS context says, as it is.
    #[default]
    Configured,
    /// `http/1.1`, if the TLS context says nothing.
    Http1,
    /// `h2`, if the TLS context says nothing.
    Http2,
    /// `h2` and `http/1.1`, if the TLS context says nothing.
    Auto,
    /// Istio's list for HTTP/1.0 (`istio.alpn`), whatever the TLS context says.
    IstioHttp10,
    /// Istio's list for HTTP/1.1.
    IstioHttp11,
    /// Istio's list for HTTP/2.
    IstioHttp2,
}

impl AlpnOffer {
    fn list(self, configured: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let list: &[&[u8]] = match self {
            AlpnOffer::Configured => return configured.to_vec(),
            AlpnOffer::Http1 | AlpnOffer::Http2 | AlpnOffer::Auto if !configured.is_empty() => {
                return configured.to_vec();
            }
            AlpnOffer::Http1 => &[b"http/1.1"],
            AlpnOffer::Http2 => &[b"h2"],
            AlpnOffer::Auto => &[b"h2", b"http/1.1"],
            AlpnOffer::IstioHttp10 => &[b"istio-http/1.0", b"istio", b"http/1.0"],
            AlpnOffer::IstioHttp11 => &[b"istio-http/1.1", b"istio", b"http/1.1"],
            AlpnOffer::IstioHttp2 => &[b"istio-h2", b"istio", b"h2"],
        };
        list.iter().map(|p| p.to_vec()).collect()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The cluster's limit of connections is reached.
    #[error("the cluster has as many connections as max_connections allows")]
    Overflow,
    /// Nothing within the cluster's `connect_timeout`.
    #[error("no connection to {address} within {limit:?} (connect_timeout)")]
    Timeout {
        /// Endpoint.
        address: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// The socket could not be made or bound, or the peer refused.
    #[error("cannot connect to {address}: {error}")]
    Tcp {
        /// Endpoint.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// A secret is missing, or the handshake failed.
    #[error("{address}: {error}")]
    Tls {
        /// Endpoint.
        address: SocketAddr,
        /// What went wrong.
        error: TlsError,
    },
}

impl ConnectError {
    /// The limit of connections was reached, nothing was tried.
    pub fn is_overflow(&self) -> bool {
        matches!(self, ConnectError::Overflow)
    }

    /// Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: one word, for logs.
    pub fn transport_failure(&self) -> Option<String> {
        let text = match self {
            ConnectError::Tls { .. } => self.tls_failure()?,
            ConnectError::Tcp { error, .. } => match error.raw_os_error() {
                Some(code) => format!("delayed connect error: {}", Errno::from_raw(code).desc()),
                None => format!("delayed connect error: {error}"),
            },
            ConnectError::Timeout { .. } | ConnectError::Overflow => return None,
        };
        Some(text.replace(' ', "_"))
    }

    /// What went wrong with TLS, in words that the caller may see.
    pub fn tls_failure(&self) -> Option<String> {
        match self {
            ConnectError::Tls { error, .. } => Some(format!("TLS_error: {error}")),
            _ => None,
        }
    }
}

/// Opens a connection, TLS included, within the cluster's `connect_timeout`.
///
/// # Errors
/// See [`ConnectError`]; failures are counted in the cluster's and the endpoint's statistics.
pub async fn connect(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    endpoint: &Endpoint,
    options: ConnectOptions<'_>,
) -> Result<UpstreamIo, ConnectError> {
    let _ = worker;
    let guard = ConnectionGuard::new(cluster, endpoint, options).ok_or(ConnectError::Overflow)?;
    let limit = cluster.connect_timeout;
    let opened = tokio::time::timeout(limit, open(cluster, endpoint, options)).await;
    let address = endpoint.address;
    let failure = match opened {
        Ok(Ok(Opened::Plain(stream))) => return Ok(UpstreamIo::plain(stream, guard)),
        Ok(Ok(Opened::Tls(stream))) => {
            cluster.stats.ssl_handshake.inc();
            return Ok(UpstreamIo::tls(stream, guard));
        }
        Ok(Err(error)) => {
            if matches!(error, ConnectError::Tls { .. }) {
                cluster.stats.ssl_connection_error.inc();
            }
            error
        }
        Err(_) => {
            cluster.stats.upstream_cx_connect_timeout.inc();
            ConnectError::Timeout { address, limit }
        }
    };
    guard.failed();
    tracing::debug!(cluster = %cluster.name, "{failure}");
    Err(failure)
}

/// A connection, whatever it is made of.
pub(super) type BoxedStream = Box<dyn AnyStream>;

pub(super) trait AnyStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AnyStream for S {}

/// Opens a connection for a health check, which no limit holds back and no statistics of the cluster count. The caller limits
/// its time.
pub(super) async fn open_for_check(cluster: &Cluster, endpoint: &Endpoint) -> Result<BoxedStream, ConnectError> {
    Ok(match open(cluster, endpoint, ConnectOptions::default()).await? {
        Opened::Plain(stream) => Box::new(stream),
        Opened::Tls(stream) => Box::new(stream),
    })
}

enum Opened {
    Plain(TcpStream),
    Tls(ClientStream<ReadAhead<TcpStream>>),
}

async fn open(cluster: &Cluster, endpoint: &Endpoint, options: ConnectOptions<'_>) -> Result<Opened, ConnectError> {
    let address = endpoint.address;
    let tls = endpoint.transport.tls();
    // Before the connection is made: without the secret there is no use in one.
    if let Some(waiting) = tls.filter(|t| t.config.is_none()) {
        let error = TlsError::NotReady(waiting.secrets.join(", "));
        return Err(ConnectError::Tls { address, error });
    }
    let refused = |error| ConnectError::Tcp { address, error };
    let mut stream = open_tcp(cluster, address).await.map_err(refused)?;
    if let Some(version) = endpoint.transport.proxy_header() {
        let header = proxy_header::encode(version, options.proxied);
        stream.write_all(&header).await.map_err(refused)?;
    }
    let Some(tls) = tls else {
        return Ok(Opened::Plain(stream));
    };
    // The configured name, else the request's host (`auto_sni`).
    let sni = if tls.sni.is_empty() {
        options.server_name.unwrap_or_default()
    } else {
        &tls.sni
    };
    let stream = tls::connect(ReadAhead::new(stream), tls, sni, &options.alpn.list(&tls.alpn))
        .await
        .map_err(|error| ConnectError::Tls { address, error })?;
    Ok(Opened::Tls(stream))
}

async fn open_tcp(cluster: &Cluster, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_nodelay(true)?;
    mark(&socket)?;
    if let Some(source) = cluster.bind.and_then(|bind| source_for(bind, address)) {
        // Without this, the kernel would pick a port that is free for every destination and run out of them early.
        let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true);
        socket.bind(SocketAddr::new(source, 0))?;
    }
    if let Some(keepalive) = &cluster.keepalive {
        let mut params = TcpKeepalive::new();
        if let Some(time) = keepalive.time {
            params = params.with_time(time);
        }
        if let Some(interval) = keepalive.interval {
            params = params.with_interval(interval);
        }
        if let Some(probes) = keepalive.probes {
            params = params.with_retries(probes);
        }
        SockRef::from(&socket).set_tcp_keepalive(&params)?;
    }
    socket.connect(address).await
}

/// Source address of the right family: Istio's 127.0.0.6 is `::6` towards IPv6.
fn source_for(bind: IpAddr, to: SocketAddr) -> Option<IpAddr> {
    if bind.is_ipv4() == to.is_ipv4() {
        return Some(bind);
    }
    match bind {
        IpAddr::V4(v4) if v4.octets() == [127, 0, 0, 6] => Some(IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))),
        _ => None,
    }
}
