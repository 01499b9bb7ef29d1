//! One accepted connection, as its network filters see it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::snapshot::{FilterChain, Listener};

/// Facts of an accepted connection; they do not change while it lives.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// Listener that serves it (after the hand-over to the listener of the original destination).
    pub listener: Arc<Listener>,
    /// Filter chain that was chosen.
    pub chain: Arc<FilterChain>,
    /// The caller.
    pub remote: SocketAddr,
    /// Local address of the socket.
    pub local: SocketAddr,
    /// Where the caller was going: the original destination when captured, else `local`.
    pub destination: SocketAddr,
    /// Server name that the client asked for, lower case.
    pub sni: Option<Arc<str>>,
    /// ALPN that was agreed on (after termination).
    pub alpn: Option<Vec<u8>>,
    /// Peer's proof of identity, when TLS was terminated here.
    pub tls: Option<TlsInfo>,
}

/// What a terminated TLS connection says.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// SPIFFE URI of the client's certificate.
    pub peer_uri: Option<Arc<str>>,
    /// SPIFFE URI of our own certificate.
    pub local_uri: Option<Arc<str>>,
    /// The client presented a certificate and it was verified.
    pub mutual: bool,
    /// Subject of the client's certificate (RFC 2253).
    pub peer_subject: Option<Arc<str>>,
    /// DNS names of the client's certificate.
    pub peer_dns: Vec<Arc<str>>,
    /// `TLSv1.3`.
    pub version: Option<Arc<str>>,
}
