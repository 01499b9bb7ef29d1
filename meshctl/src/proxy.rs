//! The admin port of a proxy: in a pod, on this machine, or of a saved answer.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::target::{PodName, Target};
use crate::cluster::{Cluster, ClusterOptions};
use crate::http::Reply;

/// Longest wait for the admin port on this machine.
const CONNECT: Duration = Duration::from_secs(10);

/// Which proxy.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// Pod of the proxy: NAME, NAME.NAMESPACE or deploy/NAME.NAMESPACE; without one, the proxy on this machine
    #[arg(value_name = "POD")]
    pub(crate) target: Option<Target>,
    /// A saved answer of the admin port in place of a proxy
    #[arg(long, short, conflicts_with = "target", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Admin port of the proxy
    #[arg(long = "proxy-admin-port", value_name = "PORT", default_value_t = mesh_api::names::port::ADMIN)]
    pub(crate) admin_port: u16,
}

/// A proxy that can be asked.
pub(crate) enum Proxy {
    /// In a pod, which is asked by port-forward.
    Pod(Cluster, PodName, u16),
    /// On this machine, at this port.
    Local(u16),
    /// Nobody: the answer is in a file.
    File(PathBuf),
}

impl Which {
    /// The proxy that is meant.
    pub(crate) async fn find(&self, cluster: &ClusterOptions) -> Result<Proxy> {
        if let Some(file) = &self.file {
            return Ok(Proxy::File(file.clone()));
        }
        match &self.target {
            None => Ok(Proxy::Local(self.admin_port)),
            Some(target) => {
                let cluster = Cluster::connect(cluster).await?;
                let pod = target.pod(&cluster).await?;
                Ok(Proxy::Pod(cluster, pod, self.admin_port))
            }
        }
    }
}

impl Proxy {
    /// `NAME.NAMESPACE`, or where else it is.
    pub(crate) fn name(&self) -> String {
        match self {
            Proxy::Pod(_, pod, _) => pod.to_string(),
            Proxy::Local(port) => format!("127.0.0.1:{port}"),
            Proxy::File(file) => file.display().to_string(),
        }
    }

    /// What a page says. A saved answer is given for every page.
    pub(crate) async fn page(&self, path: &str) -> Result<Value> {
        match self {
            Proxy::File(file) => {
                let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))
            }
            _ => self.ask(Method::GET, path).await?.json().with_context(|| self.name()),
        }
    }

    /// Changes something.
    pub(crate) async fn post(&self, path: &str) -> Result<String> {
        self.ask(Method::POST, path).await?.text().with_context(|| self.name())
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Reply> {
        match self {
            Proxy::Pod(cluster, pod, port) => cluster
                .ask(pod, *port, method, path)
                .await
                .with_context(|| format!("the proxy of {pod} does not answer; has the pod one?")),
            Proxy::Local(port) => {
                let address = format!("127.0.0.1:{port}");
                let nobody = || {
                    format!(
                        "no proxy answers on {address}; is this its pod? Name a pod of the cluster (deploy/NAME), or give a \
                         saved dump with -f FILE"
                    )
                };
                let stream = timeout(CONNECT, TcpStream::connect(&address)).await;
                let stream = stream.with_context(nobody)?.with_context(nobody)?;
                crate::http::ask(stream, method, &address, path)
                    .await
                    .with_context(|| address.clone())
            }
            Proxy::File(file) => anyhow::bail!("{} is a file, no proxy that can be told something", file.display()),
        }
    }
}
