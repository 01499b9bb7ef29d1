//! TLS contexts with their secrets resolved. When a secret changes, the builder makes the objects that use it anew;
//! connections that are open keep the one they were made with.

use std::sync::Arc;

/// `DownstreamTlsContext`.
#[derive(Debug)]
pub struct ServerTls {
    /// Ready to use; `None` while a secret is missing: handshakes are refused, nothing falls back to plaintext.
    pub config: Option<Arc<rustls::ServerConfig>>,
    /// Names of the secrets that it needs, for messages.
    pub secrets: Vec<Arc<str>>,
    /// `require_client_certificate`.
    pub require_client_certificate: bool,
    /// SPIFFE URI of our own certificate ([`crate::tls::identity_uri`]).
    pub local_uri: Option<Arc<str>>,
}

/// `UpstreamTlsContext`.
#[derive(Debug)]
pub struct ClientTls {
    /// Ready to use, without ALPN; `None` while a secret is missing.
    pub config: Option<Arc<rustls::ClientConfig>>,
    /// Names of the secrets that it needs, for messages.
    pub secrets: Vec<Arc<str>>,
    /// `sni`; empty for none (or the host, with `auto_sni`).
    pub sni: Arc<str>,
    /// `alpn_protocols`, in order.
    pub alpn: Vec<Vec<u8>>,
    /// Identity of this configuration for connection pools: equal contexts share connections.
    pub fingerprint: u64,
}
