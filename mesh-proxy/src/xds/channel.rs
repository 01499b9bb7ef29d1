//! Connections to the control plane.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use super::target::{Roots, Target};
use crate::shared::Shared;
use crate::snapshot::build::{certificates, system_roots};
use crate::tls;

/// Connecting, handshakes included, may take this long.
const CONNECT: Duration = Duration::from_secs(10);
/// A silent peer is asked after this long, and given up when it does not answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

/// Both directions of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type BoxStream = Pin<Box<dyn Stream>>;

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<BoxStream>>> + Send>>;

/// Opens one connection; reconnecting is the caller's business, so that certificates and tokens are read anew.
struct Connector<F>(F);

impl<F, Fut> Service<Uri> for Connector<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<BoxStream>> + Send + 'static,
{
    type Response = TokioIo<BoxStream>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let opening = (self.0)();
        Box::pin(async move {
            match tokio::time::timeout(CONNECT, opening).await {
                Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
                Ok(Err(e)) => Err(io::Error::other(format!("{e:#}"))),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not connected after {}s", CONNECT.as_secs()),
                )),
            }
        })
    }
}

/// A channel to a server of the control plane, connected.
pub(crate) async fn channel(target: &Target) -> anyhow::Result<Channel> {
    let target = Arc::new(target.clone());
    let authority = if target.host.contains(':') {
        format!("[{}]:{}", target.host, target.port)
    } else {
        format!("{}:{}", target.host, target.port)
    };
    connect(&authority, move || open_target(target.clone())).await
}

/// A channel to an endpoint of a cluster, connected.
pub(super) async fn cluster_channel(shared: &Arc<Shared>, cluster: &str) -> anyhow::Result<Channel> {
    let (shared, cluster) = (shared.clone(), cluster.to_owned());
    connect(&authority_of(&cluster), move || {
        open_cluster(shared.clone(), cluster.clone())
    })
    .await
}

/// Cluster names may hold anything; an authority may not.
fn authority_of(cluster: &str) -> String {
    let plain = cluster
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if plain {
        cluster.to_owned()
    } else {
        "control-plane".to_owned()
    }
}

async fn connect<F, Fut>(authority: &str, open: F) -> anyhow::Result<Channel>
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<BoxStream>> + Send + 'static,
{
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true);
    endpoint.connect_with_connector(Connector(open)).await.map_err(|e| {
        // tonic's own text says only "transport error".
        let source = std::error::Error::source(&e).map(ToString::to_string);
        anyhow::anyhow!(
            "cannot connect to {authority}: {}",
            source.unwrap_or_else(|| e.to_string())
        )
    })
}

async fn open_target(target: Arc<Target>) -> anyhow::Result<BoxStream> {
    let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(roots) = &target.roots else {
        return Ok(Box::pin(tcp));
    };
    let config = client_config(&target, roots)?;
    let name = ServerName::try_from(target.server_name.clone())
        .with_context(|| format!("{:?} is no server name", target.server_name))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .with_context(|| format!("TLS handshake as {:?}", target.server_name))?;
    Ok(Box::pin(stream))
}

fn client_config(target: &Target, roots: &Roots) -> anyhow::Result<ClientConfig> {
    let trusted = match roots {
        Roots::File(path) => {
            let pem = std::fs::read(path).with_context(|| {
                format!(
                    "cannot read the mesh's roots at {} (XDS_ROOT_CA, CA_ROOT_CA)",
                    path.display()
                )
            })?;
            certificates(&pem).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?
        }
        Roots::System => system_roots().map_err(|e| anyhow::anyhow!("{e}"))?.roots,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(trusted);
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store);
    let own = target.certificate.as_ref().and_then(|c| c.load_full());
    let mut config = match own {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

async fn open_cluster(shared: Arc<Shared>, name: String) -> anyhow::Result<BoxStream> {
    let snapshot = shared.snapshot.load_full();
    let cluster = snapshot
        .clusters
        .get(name.as_str())
        .with_context(|| format!("cluster {name:?} is not ready"))?;
    let healthy: Vec<_> = cluster.endpoints.iter().filter(|e| e.healthy).collect();
    anyhow::ensure!(
        !healthy.is_empty(),
        "cluster {name:?} has no endpoint (its name may not resolve)"
    );
    let endpoint = healthy[rand::random_range(0..healthy.len())];
    let tcp = TcpStream::connect(endpoint.address)
        .await
        .with_context(|| endpoint.address.to_string())?;
    tcp.set_nodelay(true)?;
    match endpoint.transport.tls() {
        None => Ok(Box::pin(tcp)),
        Some(context) => {
            let stream = tls::connect(tcp, context, &context.sni, &[b"h2".to_vec()]).await?;
            Ok(Box::pin(stream))
        }
    }
}

/// Adds what proves the caller: the token, and the cluster that it belongs to.
pub(crate) fn with_credentials<T>(
    mut request: tonic::Request<T>,
    target: &Target,
) -> anyhow::Result<tonic::Request<T>> {
    if let Some(path) = &target.token {
        match std::fs::read_to_string(path) {
            Ok(token) => {
                let value = MetadataValue::try_from(format!("Bearer {}", token.trim()))
                    .with_context(|| format!("{} holds no token", path.display()))?;
                request.metadata_mut().insert("authorization", value);
            }
            // A certificate proves as much; without either the server says so.
            Err(e) => tracing::debug!("no token at {}: {e}", path.display()),
        }
    }
    if let Some(id) = &target.cluster_id
        && let Ok(value) = MetadataValue::try_from(id.as_str())
    {
        request.metadata_mut().insert("clusterid", value);
    }
    Ok(request)
}
