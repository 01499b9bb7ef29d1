//! The admin port of a proxy: in a pod, on this machine, or of a saved answer.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use http::Method;
use mesh_api::names::port;
use serde_json::Value;

use crate::address::Address;
use crate::cluster::target::{PodName, Target};
use crate::cluster::{Cluster, ClusterOptions};
use crate::http::Reply;

/// Which proxy.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// Pod of the proxy: NAME, NAME.NAMESPACE or deploy/NAME.NAMESPACE; without one, the proxy on this machine
    #[arg(value_name = "POD", conflicts_with_all = ["file", "proxy"])]
    target: Option<Target>,
    #[command(flatten)]
    place: Place,
}

/// Where a proxy is asked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Place {
    /// A saved answer of the admin port in place of a proxy
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Admin port of a proxy that runs without a cluster: 127.0.0.1:15000, or netns:NAME for the network namespace that it
    /// runs in
    #[arg(long, value_name = "ADDRESS", value_parser = address, conflicts_with = "file")]
    proxy: Option<Address>,
    /// Admin port of the proxy in its pod
    #[arg(long = "proxy-admin-port", value_name = "PORT", default_value_t = port::ADMIN)]
    admin_port: u16,
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text, port::ADMIN)
}

/// A proxy that can be asked.
pub(crate) enum Proxy {
    /// In a pod, which is asked by port-forward.
    Pod(Cluster, PodName, u16),
    /// At this address.
    Address(Address),
    /// Nobody: the answer is in a file.
    File(PathBuf),
}

impl Which {
    /// The proxy that is meant.
    pub(crate) async fn find(&self, cluster: &ClusterOptions) -> Result<Proxy> {
        match (&self.target, self.place.given()) {
            (_, Some(proxy)) => Ok(proxy),
            (None, None) => Ok(Proxy::Address(Address::local(self.place.admin_port))),
            (Some(target), None) => {
                let cluster = Cluster::connect(cluster).await?;
                let pod = target.pod(&cluster).await?;
                Ok(self.place.of_pod(cluster, pod))
            }
        }
    }
}

impl Place {
    /// The proxy that is named without a cluster.
    pub(crate) fn given(&self) -> Option<Proxy> {
        let address = || self.proxy.clone().map(Proxy::Address);
        self.file.clone().map(Proxy::File).or_else(address)
    }

    /// The proxy of a pod.
    pub(crate) fn of_pod(&self, cluster: Cluster, pod: PodName) -> Proxy {
        Proxy::Pod(cluster, pod, self.admin_port)
    }
}

impl Proxy {
    /// `NAME.NAMESPACE`, or where else it is.
    pub(crate) fn name(&self) -> String {
        match self {
            Proxy::Pod(_, pod, _) => pod.to_string(),
            Proxy::Address(address) => address.to_string(),
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
            Proxy::Pod(cluster, pod, port) => match cluster.ask(pod, *port, method, path).await {
                Ok(reply) => Ok(reply),
                Err(error) => match cluster.why_no_proxy(pod).await {
                    Some(why) => Err(anyhow::anyhow!(why)),
                    None => Err(error.context(format!("the proxy of {pod} does not answer"))),
                },
            },
            Proxy::Address(address) => {
                let nobody = || {
                    format!(
                        "no proxy answers on {address}; is this its pod? Name a pod of the cluster (deploy/NAME), another \
                         address with --proxy, or a saved dump with -f FILE"
                    )
                };
                address.ask(method, path, None).await.with_context(nobody)
            }
            Proxy::File(file) => anyhow::bail!("{} is a file, no proxy that can be told something", file.display()),
        }
    }
}
