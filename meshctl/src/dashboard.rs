//! `dashboard`: ports of the mesh's own pages and of the addons, forwarded to this machine.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use kube::api::ListParams;
use mesh_api::names::port;
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::target::{PodName, Target, is_ready, is_running};
use crate::cluster::{Cluster, ClusterOptions, forward};

/// Which page.
#[derive(Subcommand)]
pub(crate) enum Page {
    /// Admin page of a proxy
    #[command(visible_alias = "proxy")]
    Envoy(OfPod),
    /// Debug pages of the control plane; the same as istiod-debug
    Controlz(OfControl),
    /// Debug pages of the control plane
    IstiodDebug(OfControl),
    /// Prometheus
    Prometheus(Common),
    /// Grafana
    Grafana(Common),
    /// Jaeger
    Jaeger(Common),
    /// Kiali
    Kiali(Common),
    /// Zipkin
    Zipkin(Common),
}

/// How to forward.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Port on this machine [default: that of the page, or a free one]
    #[arg(long, short, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Address on this machine to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    address: IpAddr,
    /// Open the page in a browser (xdg-open)
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    browser: bool,
}

/// Page of a pod.
#[derive(Args)]
pub(crate) struct OfPod {
    /// NAME, NAME.NAMESPACE or deploy/NAME.NAMESPACE
    #[arg(value_name = "POD")]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Page of the control plane.
#[derive(Args)]
pub(crate) struct OfControl {
    /// Pod of the control plane; any, if none is named
    #[arg(value_name = "POD")]
    target: Option<Target>,
    #[command(flatten)]
    common: Common,
}

/// An addon: where its pods are, by the labels that Istio's samples and charts give them.
struct Addon {
    name: &'static str,
    labels: &'static [&'static str],
    port: u16,
    path: &'static str,
}

const PROMETHEUS: Addon = Addon {
    name: "Prometheus",
    labels: &["app.kubernetes.io/name=prometheus", "app=prometheus"],
    port: 9090,
    path: "/",
};
const GRAFANA: Addon = Addon {
    name: "Grafana",
    labels: &["app.kubernetes.io/name=grafana", "app=grafana"],
    port: 3000,
    path: "/",
};
const JAEGER: Addon = Addon {
    name: "Jaeger",
    labels: &["app.kubernetes.io/name=jaeger", "app=jaeger"],
    port: 16686,
    path: "/",
};
const KIALI: Addon = Addon {
    name: "Kiali",
    labels: &["app.kubernetes.io/name=kiali", "app=kiali"],
    port: 20001,
    path: "/kiali",
};
const ZIPKIN: Addon = Addon {
    name: "Zipkin",
    labels: &["app.kubernetes.io/name=zipkin", "app=zipkin"],
    port: 9411,
    path: "/",
};
const CONTROL: Addon = Addon {
    name: "the control plane",
    labels: &[crate::control::CONTROL],
    port: port::CONTROL_MONITORING,
    path: "/debug",
};

/// Forwards until Ctrl-C.
pub(crate) async fn run(page: &Page, at: &ClusterOptions) -> Result<String> {
    let cluster = Cluster::connect(at).await?;
    let (pod, port, path, common) = match page {
        Page::Envoy(of) => (of.target.pod(&cluster).await?, port::ADMIN, "/", &of.common),
        Page::Controlz(of) | Page::IstiodDebug(of) => {
            let pod = match &of.target {
                Some(target) => target.pod(&cluster).await?,
                None => CONTROL.pod(&cluster).await?,
            };
            (pod, CONTROL.port, CONTROL.path, &of.common)
        }
        Page::Prometheus(common) => addon(&PROMETHEUS, &cluster, common).await?,
        Page::Grafana(common) => addon(&GRAFANA, &cluster, common).await?,
        Page::Jaeger(common) => addon(&JAEGER, &cluster, common).await?,
        Page::Kiali(common) => addon(&KIALI, &cluster, common).await?,
        Page::Zipkin(common) => addon(&ZIPKIN, &cluster, common).await?,
    };
    let listener = listen(common, port).await?;
    let url = format!("http://{}{path}", listener.local_addr()?);
    let mut out = std::io::stdout();
    writeln!(out, "{url}")?;
    out.flush()?;
    if common.browser {
        open(&url);
    }
    tokio::select! {
        outcome = serve(&cluster, &pod, port, &listener) => outcome.map(|()| String::new()),
        _ = tokio::signal::ctrl_c() => Ok(String::new()),
    }
}

async fn addon<'a>(
    addon: &'static Addon,
    cluster: &Cluster,
    common: &'a Common,
) -> Result<(PodName, u16, &'static str, &'a Common)> {
    Ok((addon.pod(cluster).await?, addon.port, addon.path, common))
}

impl Addon {
    /// A pod of it, in the namespace of the control plane.
    async fn pod(&self, cluster: &Cluster) -> Result<PodName> {
        for labels in self.labels {
            let list = ListParams::default().labels(labels);
            let pods = cluster.pods(&cluster.root).list(&list).await;
            let mut pods = pods.with_context(|| format!("pods of {}", self.name))?.items;
            pods.retain(is_running);
            pods.sort_by_key(|pod| !is_ready(pod));
            if let Some(name) = pods.into_iter().next().and_then(|pod| pod.metadata.name) {
                return Ok(PodName {
                    name,
                    namespace: cluster.root.clone(),
                });
            }
        }
        bail!(
            "no pod of {} runs in namespace {} (looked for {}); is it installed, and is -i right?",
            self.name,
            cluster.root,
            self.labels.join(", ")
        )
    }
}

/// The port that is asked for; else the page's own, or any that is free.
async fn listen(common: &Common, usual: u16) -> Result<TcpListener> {
    let at = |port| SocketAddr::new(common.address, port);
    if common.port != 0 {
        let address = at(common.port);
        return TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; choose another --port"));
    }
    match TcpListener::bind(at(usual)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(at(0)).await.context("no port is free"),
    }
}

/// A port-forward for each connection.
async fn serve(cluster: &Cluster, pod: &PodName, port: u16, listener: &TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("cannot take connections any more")?;
        let (cluster, pod) = (cluster.clone(), pod.clone());
        tokio::spawn(async move {
            if let Err(error) = relay(&cluster, &pod, port, stream).await {
                let _ = writeln!(std::io::stderr(), "meshctl: {error:#}");
            }
        });
    }
}

async fn relay(cluster: &Cluster, pod: &PodName, port: u16, mut stream: TcpStream) -> Result<()> {
    let mut forwarded = forward::open(cluster, pod, port).await?;
    // Browsers leave connections without a goodbye.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut forwarded.stream).await;
    drop(forwarded.stream);
    match forward::reason(forwarded.error).await {
        Some(reason) if !reason.trim().is_empty() => bail!("port {port} of pod {pod}: {}", reason.trim()),
        _ => Ok(()),
    }
}

/// No browser is no fault: the address is printed.
fn open(url: &str) {
    let quiet = std::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    drop(quiet);
}
