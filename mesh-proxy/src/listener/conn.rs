//! One accepted connection, as its network filters see it.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Facts, choose};
use crate::snapshot::{FilterChain, Listener, Snapshot, Terminal};

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
    /// Port of the socket that it came in by. A connection to this very port was not captured: it must not be sent to its
    /// original destination ([`ConnInfo::would_loop`]).
    pub bound_port: u16,
    /// What the filter chain was chosen by.
    pub facts: Facts,
    /// The choice under the newest snapshot that was looked at.
    current: RefCell<Option<Current>>,
}

/// The chain that a connection has under one snapshot.
#[derive(Debug, Clone)]
struct Current {
    version: u64,
    listener: Arc<Listener>,
    chain: Result<Arc<FilterChain>, Refusal>,
}

/// Why an open connection is not allowed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No filter chain matches, and there is no default one.
    NoChain,
    /// The chain needs TLS and the connection is plaintext (a port went from PERMISSIVE to STRICT).
    NeedsTls,
    /// The chain needs a client certificate and the caller has shown none.
    NeedsClientCertificate,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NoChain => "no filter chain matches it any more",
            Refusal::NeedsTls => "its filter chain needs TLS now and the connection is plaintext",
            Refusal::NeedsClientCertificate => "its filter chain needs a client certificate now",
        })
    }
}

impl ConnInfo {
    /// A plaintext connection; `facts` name its ends.
    pub fn new(listener: Arc<Listener>, chain: Arc<FilterChain>, local: SocketAddr, facts: Facts) -> Self {
        ConnInfo {
            listener,
            chain,
            remote: facts.source,
            local,
            destination: facts.destination,
            sni: facts.sni.clone(),
            alpn: None,
            tls: None,
            bound_port: local.port(),
            facts,
            current: RefCell::new(None),
        }
    }

    /// The original destination is this proxy's own port: sending the connection there would bring it back for ever.
    pub fn would_loop(&self) -> bool {
        self.destination.port() == self.bound_port
    }

    /// What the connection is under a snapshot. Looked up once a snapshot.
    ///
    /// # Errors
    /// When policy now forbids it.
    pub fn reevaluate(&self, snapshot: &Snapshot) -> Result<Arc<FilterChain>, Refusal> {
        let mut current = self.current.borrow_mut();
        if let Some(known) = &*current
            && known.version == snapshot.version
        {
            return known.chain.clone();
        }
        let (seen, chain) = match &*current {
            Some(known) => (&known.listener, known.chain.clone()),
            None => (&self.listener, Ok(self.chain.clone())),
        };
        // Connections outlive their listener: removing it only stops new ones.
        let listener = snapshot.listeners.get(&self.listener.name).unwrap_or(seen);
        let chain = if Arc::ptr_eq(listener, seen) {
            chain
        } else {
            self.choose_again(listener)
        };
        *current = Some(Current {
            version: snapshot.version,
            listener: listener.clone(),
            chain: chain.clone(),
        });
        chain
    }

    fn choose_again(&self, listener: &Listener) -> Result<Arc<FilterChain>, Refusal> {
        let chosen = choose(listener, &self.facts).or_else(|| choose(listener, &self.facts_after_tls(listener)?));
        let chain = chosen.ok_or(Refusal::NoChain)?;
        match (&chain.tls, &self.tls) {
            (Some(_), None) => Err(Refusal::NeedsTls),
            (Some(tls), Some(peer)) if tls.require_client_certificate && !peer.mutual => {
                Err(Refusal::NeedsClientCertificate)
            }
            _ => Ok(chain.clone()),
        }
    }

    /// Inspectors may come and go while a connection whose TLS was terminated here lives. Where the listener looks for TLS
    /// now, it counts as what the handshake agreed on. Where it does not (mode DISABLE), it goes on by the chain that
    /// plaintext of the same kind gets: it is no less safe than that.
    fn facts_after_tls(&self, listener: &Listener) -> Option<Facts> {
        self.tls.as_ref()?;
        let inspector = listener.inspectors.tls.as_ref();
        let tls = inspector.is_some_and(|tls| tls.runs_for(self.destination.port()));
        let agreed = self.alpn.as_ref().map(|p| String::from_utf8_lossy(p).into_owned());
        let protocols = match (tls, &self.chain.terminal, agreed) {
            (true, _, agreed) => agreed.into_iter().collect(),
            (false, Terminal::Http(_), Some(h2)) if h2 == "h2" => vec!["h2c".to_owned()],
            (false, Terminal::Http(_), _) => vec!["http/1.1".to_owned()],
            (false, ..) => Vec::new(),
        };
        Some(Facts {
            tls,
            sni: self.sni.clone().filter(|_| tls),
            protocols,
            ..self.facts.clone()
        })
    }
}

/// The filter chain that an open connection has under a snapshot: later requests are served by its filters. `None` when
/// policy does not allow the connection any more; it is about to be closed. Cheap: decided once a snapshot.
pub fn current_chain(conn: &ConnInfo, snapshot: &Snapshot) -> Option<Arc<FilterChain>> {
    conn.reevaluate(snapshot).ok()
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
    /// SHA-256 of the client's certificate, lower-case hexadecimal.
    pub peer_hash: Option<Arc<str>>,
    /// `TLSv1.3`.
    pub version: Option<Arc<str>>,
}
