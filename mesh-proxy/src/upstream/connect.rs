//! Opening a connection to an endpoint.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use super::UpstreamIo;
use super::io::ConnectionGuard;
use crate::snapshot::{ClientTls, Cluster, Endpoint, Transport};
use crate::worker::Worker;

/// What a connection needs beside its cluster and endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectOptions<'a> {
    /// Server name to ask for when the TLS context names none (`auto_sni`).
    pub server_name: Option<&'a str>,
    /// ALPN to offer instead of the TLS context's (`istio.alpn`); when the context has none, this is offered.
    pub alpn: AlpnOffer,
}

/// Application protocols to offer on TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum AlpnOffer {
    /// As the TLS context says.
    #[default]
    Configured,
    /// These if the TLS context has none.
    Fallback(&'static [&'static [u8]]),
    /// These.
    Override(&'static [&'static [u8]]),
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
    /// TLS is configured and a secret has not come yet; nothing falls back to plaintext.
    #[error("TLS towards {address} waits for the secret(s) {secrets}")]
    MissingSecret {
        /// Endpoint.
        address: SocketAddr,
        /// Their names.
        secrets: String,
    },
    /// The handshake failed.
    #[error("TLS handshake with {address}: {error}")]
    Tls {
        /// Endpoint.
        address: SocketAddr,
        /// What went wrong.
        error: io::Error,
    },
}

impl ConnectError {
    /// The limit of connections was reached, nothing was tried.
    pub fn is_overflow(&self) -> bool {
        matches!(self, ConnectError::Overflow)
    }

    /// Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, for failures of TLS.
    pub fn transport_failure(&self) -> Option<String> {
        match self {
            ConnectError::Tls { error, .. } => Some(format!("TLS_error: {error}")),
            ConnectError::MissingSecret { .. } => Some(self.to_string()),
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
    let guard = ConnectionGuard::new(cluster, endpoint).ok_or(ConnectError::Overflow)?;
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

enum Opened {
    Plain(TcpStream),
    Tls(tokio_rustls::client::TlsStream<TcpStream>),
}

async fn open(cluster: &Cluster, endpoint: &Endpoint, options: ConnectOptions<'_>) -> Result<Opened, ConnectError> {
    let address = endpoint.address;
    let tls = match &endpoint.transport {
        Transport::Plain => None,
        // Checked before the connection is made: no bytes leave without the secret.
        Transport::Tls(tls) => match &tls.config {
            Some(config) => Some((tls, config)),
            None => {
                return Err(ConnectError::MissingSecret {
                    address,
                    secrets: tls.secrets.join(", "),
                });
            }
        },
    };
    let stream = open_tcp(cluster, address)
        .await
        .map_err(|error| ConnectError::Tcp { address, error })?;
    let Some((tls, config)) = tls else {
        return Ok(Opened::Plain(stream));
    };
    let name = server_name(tls, endpoint, options.server_name).map_err(|error| ConnectError::Tls { address, error })?;
    let offer = match options.alpn {
        AlpnOffer::Override(list) => owned(list),
        AlpnOffer::Fallback(list) if tls.alpn.is_empty() => owned(list),
        AlpnOffer::Configured | AlpnOffer::Fallback(_) => tls.alpn.clone(),
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let stream = connector
        .with_alpn(offer)
        .connect(name, stream)
        .await
        .map_err(|error| ConnectError::Tls { address, error })?;
    Ok(Opened::Tls(stream))
}

fn owned(list: &[&[u8]]) -> Vec<Vec<u8>> {
    list.iter().map(|p| p.to_vec()).collect()
}

/// The configured name, else the request's host, else the endpoint's; an address means that no name is sent.
fn server_name(tls: &ClientTls, endpoint: &Endpoint, host: Option<&str>) -> io::Result<ServerName<'static>> {
    let name = if tls.sni.is_empty() { host } else { Some(&*tls.sni) };
    match name.filter(|n| !n.is_empty()) {
        None => Ok(ServerName::IpAddress(endpoint.address.ip().into())),
        Some(name) => ServerName::try_from(name.to_owned()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} cannot be a server name (sni of the TLS context)"),
            )
        }),
    }
}

async fn open_tcp(cluster: &Cluster, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_nodelay(true)?;
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
