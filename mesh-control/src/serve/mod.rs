//! What the control plane serves: certificates ([`ca`]), configuration ([`ads`]), pages for people and tools
//! ([`monitoring`]), and on Kubernetes answers to the API server ([`webhook`]) and what the mesh needs in it ([`cluster`]).
//!
//! [`start`] is the wiring, in the order in which things come up: source → snapshot → certificate authority → ports.

pub mod ads;
pub mod ca;
pub mod cluster;
pub mod model;
pub mod monitoring;
mod register;
mod share;
#[cfg(test)]
mod share_tests;
mod tls;
pub mod webhook;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_api::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tracing::{info, warn};

use ads::server::Ads;
use ca::authority::Authority;
use ca::caller::{Callers, Proofs};
use ca::service::CertificateService;
use ca::token::Tokens;
use cluster::Cluster;
use cluster::reviews::Reviews;
use model::Model;
pub use register::entry as entry_of_group;

use crate::source::Reader;
use crate::source::directory::{Directory, Watcher};
use crate::source::injector;
use crate::source::kubernetes::Kubernetes;

/// Proxies on the way out have this long to see that their streams have ended.
const GOODBYE: Duration = Duration::from_secs(3);
/// A dead peer is noticed after this long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where the objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a folder of YAML.
    Directory(PathBuf),
    /// In the API server of a cluster.
    Kubernetes,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Directory(path) => write!(f, "dir:{}", path.display()),
            Source::Kubernetes => f.write_str("kubernetes"),
        }
    }
}

/// What `mesh-control serve` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the objects are.
    pub source: Source,
    /// MeshConfig; without it the ConfigMap `istio` counts.
    pub mesh_config: Option<PathBuf>,
    /// Plaintext xDS and CA.
    pub grpc: SocketAddr,
    /// xDS and CA over TLS.
    pub secure_grpc: SocketAddr,
    /// Metrics and debug pages.
    pub monitoring: SocketAddr,
    /// Webhooks, on Kubernetes.
    pub webhook: SocketAddr,
    /// Keys and certificates.
    pub ca_dir: PathBuf,
    /// Trust domain; without it that of the MeshConfig counts.
    pub trust_domain: Option<String>,
    /// A 503 of the upstream is left out of Istio's own retries.
    pub exclude_unsafe_503: bool,
    /// Whether proxies are injected as containers that start before all others.
    pub native_sidecars: webhook::NativeSidecars,
    /// Further names and addresses in the server's certificate.
    pub names: Vec<String>,
}

/// A control plane that serves.
#[derive(Debug)]
pub struct Running {
    /// Where plaintext xDS and CA are served.
    pub grpc: SocketAddr,
    /// Where xDS and CA are served over TLS.
    pub secure_grpc: SocketAddr,
    /// Where metrics and debug pages are served.
    pub monitoring: SocketAddr,
    /// Where the API server's questions are answered, if there is one.
    pub webhook: Option<SocketAddr>,
    /// All trusted roots.
    pub roots: PathBuf,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

/// Starts everything; when it returns, proxies can connect. With a cluster as the source it is that of the environment.
///
/// # Errors
/// When the folder, the cluster, the CA or a port cannot be had.
pub async fn start(options: Options) -> Result<Running> {
    let cluster = match options.source {
        Source::Directory(_) => None,
        Source::Kubernetes => Some(Cluster::connect().await?),
    };
    start_in(options, cluster).await
}

/// As [`start`], with this cluster if the source is one.
///
/// # Errors
/// As [`start`].
pub async fn start_in(options: Options, cluster: Option<Cluster>) -> Result<Running> {
    // A provider may be set already where this runs inside a larger program.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    monitoring::install_metrics();
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();

    let reader = read(&options, cluster.as_ref()).await?;
    let statuses = match &reader {
        Reader::Kubernetes(objects) => Some(objects.statuses()),
        Reader::Directory(..) => None,
    };
    let settings = options.clone();
    let home = cluster.as_ref().map(|c| c.home.clone()).unwrap_or_default();
    let (model, follow) = tokio::task::spawn_blocking(move || Model::open(reader, &settings, &home)).await??;
    let present = model.present();
    let certificates = &present.store.mesh().ca_certificates;
    let further: Vec<String> = certificates.iter().filter_map(|c| c.pem.clone()).collect();
    let (ca_dir, trust_domain) = (&options.ca_dir, model.trust_domain());
    let (authority, proofs) = match &cluster {
        Some(cluster) => (
            cluster::authority::open(cluster, ca_dir, trust_domain, &further).await?,
            Proofs::Cluster(Arc::new(Reviews::new(cluster.client.clone()))),
        ),
        None => (
            Authority::open_with(ca_dir, trust_domain, &further)?,
            Proofs::Own(Arc::new(Tokens::open(ca_dir)?)),
        ),
    };
    let authority = Arc::new(authority);
    let callers = Callers::new(proofs, authority.trust_domain());
    let hub = model.hub().clone();
    tasks.spawn(follow.run(stopping.clone()));

    let plain = listen(options.grpc, "--grpc-addr").await?;
    let secure = listen(options.secure_grpc, "--secure-grpc-addr").await?;
    let monitoring = listen(options.monitoring, "--monitoring-addr").await?;
    let webhooks = match &cluster {
        Some(_) => Some(listen(options.webhook, "--webhook-addr").await?),
        None => None,
    };
    let running = Running {
        grpc: plain.local_addr()?,
        secure_grpc: secure.local_addr()?,
        monitoring: monitoring.local_addr()?,
        webhook: webhooks.as_ref().map(TcpListener::local_addr).transpose()?,
        roots: authority.bundle_file().to_owned(),
        stop,
        tasks,
    };
    let Running { mut tasks, .. } = running;

    let home = cluster.as_ref().map(|c| c.home.clone()).unwrap_or_default();
    let pages = monitoring::Pages {
        model: model.clone(),
        home: home.namespace.into(),
    };
    let services = |proof_required| {
        let ads = Ads {
            hub: hub.clone(),
            callers: callers.clone(),
            proof_required,
            tools: Arc::new(pages.clone()),
            stopping: stopping.clone(),
        };
        let ca = CertificateService {
            authority: authority.clone(),
            callers: callers.clone(),
        };
        router(ads, ca)
    };
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        // An error means that the sender is gone, which is a stop too.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let incoming = TcpListenerStream::new(plain);
    let server = services(false).serve_with_incoming_shutdown(incoming, stopped(stopping.clone()));
    tasks.spawn(async move { server.await.context("plaintext gRPC") });

    let mut names = options.names.clone();
    names.extend(cluster.iter().flat_map(Cluster::names));
    let acceptor = tls::Acceptor::new(authority.clone(), &names, b"h2")?;
    let incoming = tls::incoming(secure, acceptor, stopping.clone());
    let server = services(true).serve_with_incoming_shutdown(incoming, stopped(stopping.clone()));
    tasks.spawn(async move { server.await.context("gRPC over TLS") });

    if let (Some(cluster), Some(listener)) = (&cluster, webhooks) {
        let acceptor = tls::Acceptor::new(authority.clone(), &names, webhook::PROTOCOL)?;
        let answers = webhook::Answers {
            model: model.clone(),
            native_sidecars: options.native_sidecars,
        };
        let incoming = tls::incoming(listener, acceptor, stopping.clone());
        tasks.spawn(webhook::serve(incoming, answers));
        let roots = std::fs::read_to_string(authority.bundle_file())?;
        cluster.write(&roots, &model, statuses, &mut tasks, &stopping);
    }

    tasks.spawn(async move { monitoring::serve(monitoring, pages, callers, &authority, stopping).await });
    info!(
        xds = %running.grpc, xds_tls = %running.secure_grpc, monitoring = %running.monitoring,
        roots = %running.roots.display(), "serving"
    );
    Ok(Running { tasks, ..running })
}

/// The source, watched from now on.
async fn read(options: &Options, cluster: Option<&Cluster>) -> Result<Reader> {
    match (&options.source, cluster) {
        (Source::Directory(root), _) => {
            if !root.is_dir() {
                anyhow::bail!("--source dir:{}: there is no such folder", root.display());
            }
            // Watching begins before reading: a change in between is seen.
            let beside: Vec<PathBuf> = options.mesh_config.iter().cloned().collect();
            let watcher = Watcher::new(root, &beside);
            Ok(Reader::Directory(Directory::new(root), watcher))
        }
        (Source::Kubernetes, Some(cluster)) => {
            let home = &cluster.home;
            let settings = [home.named("istio"), home.named(injector::CONFIG_MAP)];
            let objects = Kubernetes::open(&cluster.client, &home.namespace, &settings).await?;
            Ok(Reader::Kubernetes(objects))
        }
        (Source::Kubernetes, None) => anyhow::bail!("--source kubernetes: there is no cluster"),
    }
}

async fn listen(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({option}); is another control plane running?"))
}

fn router(ads: Ads, ca: CertificateService) -> Router {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(ads)
        .add_service(IstioCertificateServiceServer::new(ca))
}

impl Running {
    /// Serves until `until` is over or a part fails, then stops.
    ///
    /// # Errors
    /// When a part failed.
    pub async fn wait(mut self, until: impl Future<Output = ()>) -> Result<()> {
        let failed = tokio::select! {
            () = until => Ok(()),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Ok(()))) | None => Err(anyhow::anyhow!("a part of the control plane ended by itself")),
                Some(Ok(Err(error))) => Err(error),
                Some(Err(error)) => Err(error.into()),
            },
        };
        info!("stopping");
        self.stop.send_replace(true);
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Ok(Err(error)) = ended {
                    warn!(%error, "while stopping");
                }
            }
        };
        if tokio::time::timeout(GOODBYE, rest).await.is_err() {
            info!("connections that did not end are closed");
        }
        failed
    }
}
