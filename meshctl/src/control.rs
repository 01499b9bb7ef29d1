//! The replicas of the control plane, asked at their monitoring port.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use http::{HeaderValue, Method};
use kube::api::ListParams;
use mesh_api::names::{label, port};
use serde_json::Value;

use crate::address::Address;
use crate::cluster::target::{PodName, is_running};
use crate::cluster::{Cluster, ClusterOptions};
use crate::http::Reply;

/// Label of the control plane's pods.
pub(crate) const CONTROL: &str = "app=istiod";
/// What the control plane without a name is called where it needs one.
pub(crate) const DEFAULT: &str = "default";

/// Which control plane.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// Monitoring port of a control plane that runs without a cluster: 127.0.0.1:15014, or netns:NAME for the network
    /// namespace that it runs in
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) control: Option<Address>,
    /// File with the token of a service account of the control plane's namespace, as `mesh-control token` writes it; not
    /// needed on the control plane's own machine
    #[arg(long, value_name = "FILE", requires = "control")]
    pub(crate) token: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) revision: Revision,
}

/// Which of several control planes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Revision {
    /// Name of the control plane, where there are several; the one without a name is called default
    #[arg(long, short, value_name = "NAME")]
    pub(crate) revision: Option<String>,
}

impl Revision {
    /// Its name as releases and labels have it: empty for the one without. `None` where nobody asked.
    pub(crate) fn name(&self) -> Option<&str> {
        let name = self.revision.as_deref()?;
        Some(if name == DEFAULT { "" } else { name })
    }
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text, port::CONTROL_MONITORING)
}

/// A replica.
pub(crate) enum Replica {
    /// In a cluster.
    Pod(Cluster, PodName),
    /// At an address, with what proves who asks.
    Address(Address, Option<HeaderValue>),
}

impl Which {
    /// Every replica that runs.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn replicas(&self, options: &ClusterOptions) -> Result<Vec<Replica>> {
        if let Some(address) = &self.control {
            let token = self.token.as_deref().map(bearer).transpose()?;
            return Ok(vec![Replica::Address(address.clone(), token)]);
        }
        let cluster = Cluster::connect(options)
            .await
            .context("no control plane (of a mesh without Kubernetes: give --control ADDRESS)")?;
        let mut selector = CONTROL.to_owned();
        if let Some(revision) = &self.revision.revision {
            selector.push_str(&format!(",{}={revision}", label::REVISION));
        }
        let pods = cluster.pods(&cluster.root);
        let pods = pods.list(&ListParams::default().labels(&selector)).await;
        let pods = pods.with_context(|| format!("pods of the control plane in namespace {}", cluster.root))?;
        let running = pods.items.into_iter().filter(is_running);
        let replicas: Vec<Replica> = running
            .filter_map(|pod| {
                let name = PodName {
                    name: pod.metadata.name?,
                    namespace: cluster.root.clone(),
                };
                Some(Replica::Pod(cluster.clone(), name))
            })
            .collect();
        if replicas.is_empty() {
            bail!(
                "no control plane runs in namespace {} (no pod with {selector}); is -i right? `meshctl install` makes one",
                cluster.root
            );
        }
        Ok(replicas)
    }
}

/// The header that a token makes.
fn bearer(file: &Path) -> Result<HeaderValue> {
    let at = || format!("--token {}", file.display());
    let token = std::fs::read_to_string(file).with_context(at)?;
    let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim())).with_context(at)?;
    header.set_sensitive(true);
    Ok(header)
}

impl Replica {
    /// Name of its pod, or its address.
    pub(crate) fn name(&self) -> String {
        match self {
            Replica::Pod(_, pod) => pod.name.clone(),
            Replica::Address(address, _) => address.to_string(),
        }
    }

    /// Asks for a page of the monitoring port.
    pub(crate) async fn page(&self, path: &str) -> Result<Reply> {
        match self {
            Replica::Pod(cluster, pod) => cluster.ask(pod, port::CONTROL_MONITORING, Method::GET, path).await,
            Replica::Address(address, token) => {
                let asked = address.ask(Method::GET, path, token.as_ref()).await;
                asked.context("no control plane answers")
            }
        }
    }

    /// Every proxy that is connected to it: an entry of `/debug/syncz` each.
    pub(crate) async fn proxies(&self) -> Result<Vec<Value>> {
        let page = self.page("/debug/syncz").await;
        let page = page.and_then(Reply::json).with_context(|| self.name())?;
        match page {
            Value::Array(all) => Ok(all),
            _ => bail!("{}: /debug/syncz answers no list", self.name()),
        }
    }
}
