//! TLS as a stranger to the mesh speaks it: a certificate authority of its own, a client and a server.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::runner::Answer;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::runtime::Runtime;

/// For one connection or answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A root that signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    /// The root.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for servers and clients of this name.
    pub(crate) fn pair(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.0).expect("a certificate");
        Pair {
            certificate: leaf.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    /// The certificate as it is sent.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM")
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }

    /// As a Secret of the gateway's namespace, with more lines of `stringData`.
    pub(crate) fn secret(&self, name: &str, more: &[(&str, &str)]) -> String {
        let mut all = vec![("tls.crt", self.certificate.as_str()), ("tls.key", self.key.as_str())];
        all.extend(more);
        secret(name, &all)
    }
}

/// A Secret of the gateway's namespace.
pub(crate) fn secret(name: &str, values: &[(&str, &str)]) -> String {
    let values: serde_json::Map<_, _> = values
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).into()))
        .collect();
    serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "namespace": "istio-system"},
        "stringData": values,
    })
    .to_string()
}

/// How to connect.
pub(crate) struct Client<'a> {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// Whose certificates are trusted.
    pub(crate) roots: &'a Authority,
    /// What to show when asked.
    pub(crate) identity: Option<&'a Pair>,
}

/// An open connection.
pub(crate) struct Connection {
    host: String,
    sender: Sender,
    /// The server's certificate.
    pub(crate) peer: CertificateDer<'static>,
    runtime: Runtime,
}

enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Client<'_> {
    /// Connects to a server by its name.
    pub(crate) fn connect(&self, host: &str, protocols: &[&str]) -> Result<Connection> {
        let mut roots = RootCertStore::empty();
        roots.add(self.roots.0.der().clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match self.identity {
            Some(pair) => config.with_client_auth_cert(vec![pair.der()], pair.key_der())?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(host.to_owned())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stream = TcpStream::connect_timeout(&self.to, LIMIT)?;
        stream.set_nonblocking(true)?;
        let (sender, peer) = runtime.block_on(within(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await?;
            let session = stream.get_ref().1;
            let peer = session
                .peer_certificates()
                .and_then(<[_]>::first)
                .cloned()
                .context("no certificate")?;
            let is_http2 = session.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            let sender = if is_http2 {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Sender::Two(sender)
            } else {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Sender::One(sender)
            };
            Ok((sender, peer))
        }))?;
        Ok(Connection {
            host: host.to_owned(),
            sender,
            peer,
            runtime,
        })
    }

    /// One request over HTTP/1.1 on a connection of its own.
    pub(crate) fn get(&self, host: &str, path: &str) -> Result<Answer> {
        self.connect(host, &["http/1.1"])?.get(path)
    }

    /// Status of [`Client::get`]; 0 when there was no answer.
    pub(crate) fn status(&self, host: &str, path: &str) -> u16 {
        self.get(host, path).map_or(0, |answer| answer.status)
    }

    /// The certificate that a server of this name shows; `None` when the handshake fails.
    pub(crate) fn certificate(&self, host: &str) -> Option<CertificateDer<'static>> {
        self.connect(host, &["http/1.1"]).ok().map(|connection| connection.peer)
    }
}

impl Connection {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Two(_))
    }

    /// A `GET` over this connection.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        let Connection {
            host, sender, runtime, ..
        } = self;
        runtime.block_on(within(async {
            let response = match sender {
                Sender::One(sender) => {
                    let request = Request::get(path).header("host", host.as_str()).body(Empty::new())?;
                    sender.send_request(request).await?
                }
                Sender::Two(sender) => {
                    let request = Request::get(format!("https://{host}{path}")).body(Empty::new())?;
                    sender.send_request(request).await?
                }
            };
            let (parts, body) = response.into_parts();
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: body.collect().await?.to_bytes(),
            })
        }))
    }
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(LIMIT, work).await.context("no answer in time")?
}

/// Serves one fixed HTTP answer to every TLS connection of a listener, for as long as the test runs.
pub(crate) fn serve(listener: TcpListener, pair: &Pair, text: &'static str) {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![pair.der()], pair.key_der())
        .expect("a fitting key");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await?;
                    let answer =
                        |_| async move { Ok::<_, std::convert::Infallible>(http::Response::new(text.to_owned())) };
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
                    served.await?;
                    anyhow::Ok(())
                });
            }
        });
    });
}
