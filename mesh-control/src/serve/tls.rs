//! The TLS port: our certificate from the mesh's CA, client certificates if the caller has one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, error, warn};

use super::ca::authority::Authority;

/// Who connects has this long for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Our certificate is made anew at half of its life.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Names by which proxies know the control plane.
const NAMES: [&str; 8] = [
    "istiod.istio-system.svc",
    "istiod.istio-system.svc.cluster.local",
    "istiod.istio-system",
    "istiod",
    "mesh-control",
    "localhost",
    "127.0.0.1",
    "::1",
];

pub(super) struct Acceptor {
    authority: Arc<Authority>,
    names: Vec<String>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// By ALPN.
    protocol: &'static [u8],
    /// One for each local address that callers use, which the certificate names too.
    made: Mutex<HashMap<IpAddr, (Arc<ServerConfig>, Instant)>>,
}

impl Acceptor {
    /// A server of one protocol (its ALPN name), known by these names beside the usual ones.
    pub(super) fn new(authority: Arc<Authority>, names: &[String], protocol: &'static [u8]) -> Result<Arc<Self>> {
        let mut roots = RootCertStore::empty();
        for root in authority.roots() {
            roots.add(root.clone()).context("a trusted root cannot be used")?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()
            .context("cannot verify client certificates")?;
        let names = NAMES.iter().map(|n| (*n).to_owned()).chain(names.iter().cloned());
        let acceptor = Acceptor {
            authority,
            names: names.collect(),
            verifier,
            protocol,
            made: Mutex::default(),
        };
        // Shows bad names now rather than with the first caller.
        acceptor.config(IpAddr::from([127, 0, 0, 1]))?;
        Ok(Arc::new(acceptor))
    }

    fn config(&self, local: IpAddr) -> Result<Arc<ServerConfig>> {
        let mut made = self.made.lock();
        let present = made.get(&local);
        if let Some((config, at)) = present
            && at.elapsed() < TTL / 2
        {
            return Ok(config.clone());
        }
        match self.make(local) {
            Ok(config) => {
                let config = Arc::new(config);
                made.insert(local, (config.clone(), Instant::now()));
                Ok(config)
            }
            Err(error) => match present {
                Some((config, _)) => {
                    error!(%error, "the server's certificate cannot be renewed; the old one stays");
                    Ok(config.clone())
                }
                None => Err(error),
            },
        }
    }

    fn make(&self, local: IpAddr) -> Result<ServerConfig> {
        let mut names = self.names.clone();
        let local = local.to_canonical().to_string();
        if !names.contains(&local) {
            names.push(local);
        }
        let identity = self.authority.server_identity(&names, TTL, SystemTime::now())?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(self.verifier.clone())
            .with_single_cert(identity.chain, identity.key)
            .context("the server's certificate")?;
        config.alpn_protocols = vec![self.protocol.to_vec()];
        // A resumed session would bring back an identity without another look at its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Connections whose handshake is done. Handshakes run beside each other, so that a slow one keeps nobody waiting.
pub(super) fn incoming(
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    mut stopping: watch::Receiver<bool>,
) -> ReceiverStream<std::io::Result<TlsStream<TcpStream>>> {
    let (done, connections) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, as a rule: it passes.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, done) = (acceptor.clone(), done.clone());
            tokio::spawn(async move {
                match tokio::time::timeout(HANDSHAKE, handshake(&acceptor, stream)).await {
                    Ok(Ok(stream)) => {
                        // The server is gone only when it stops.
                        let _ = done.send(Ok(stream)).await;
                    }
                    Ok(Err(error)) => debug!(%peer, error = format!("{error:#}"), "TLS handshake failed"),
                    Err(_) => debug!(%peer, "TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn handshake(acceptor: &Acceptor, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let config = acceptor.config(stream.local_addr()?.ip())?;
    Ok(TlsAcceptor::from(config).accept(stream).await?)
}
