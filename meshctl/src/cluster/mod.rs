//! The cluster that a command asks, by its API server alone: proxies and the control plane are reached by port-forward.

pub(crate) mod forward;
pub(crate) mod target;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::http::Reply;
use target::PodName;

/// Longest wait for the API server to take a connection.
const CONNECT: Duration = Duration::from_secs(15);

/// Container of the proxy.
pub(crate) const PROXY: &str = "istio-proxy";

/// Which cluster, and where in it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterOptions {
    /// File that names the cluster [default: KUBECONFIG, ~/.kube/config, or the cluster of this pod]
    #[arg(long, short = 'c', global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of that file
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Namespace [default: that of the context]
    #[arg(long, short = 'n', global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Namespace of the control plane
    #[arg(
        long = "istioNamespace",
        visible_alias = "istio-namespace",
        short = 'i',
        global = true,
        value_name = "NAME",
        default_value = mesh_api::names::ROOT_NAMESPACE
    )]
    pub(crate) istio_namespace: String,
}

impl ClusterOptions {
    async fn config(&self) -> Result<Config> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match (&self.kubeconfig, &self.context) {
            (Some(file), _) => {
                let file_of = || format!("--kubeconfig {}", file.display());
                let read = Kubeconfig::read_from(file).with_context(file_of)?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .with_context(file_of)?
            }
            (None, Some(context)) => Config::from_kubeconfig(&options)
                .await
                .with_context(|| format!("--context {context}"))?,
            (None, None) => Config::infer().await.context(
                "there is no cluster: KUBECONFIG (or ~/.kube/config) names none, and this is no pod with a service \
                 account. Give --kubeconfig FILE",
            )?,
        };
        Ok(config)
    }
}

/// A cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// Its API server.
    pub(crate) client: Client,
    /// Where objects are looked for that name no namespace.
    pub(crate) namespace: String,
    /// Where the control plane is.
    pub(crate) root: String,
}

impl Cluster {
    /// The cluster of the options. The API server is not asked yet.
    pub(crate) async fn connect(options: &ClusterOptions) -> Result<Self> {
        let mut config = options.config().await?;
        config.connect_timeout = Some(CONNECT);
        // What is forwarded may be quiet for long.
        config.read_timeout = None;
        let namespace = options.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let url = config.cluster_url.clone();
        let client = Client::try_from(config).with_context(|| format!("the API server at {url}"))?;
        Ok(Cluster {
            client,
            namespace,
            root: options.istio_namespace.clone(),
        })
    }

    /// Pods of a namespace.
    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Why the proxy of a pod does not answer, as far as the pod says so.
    pub(crate) async fn why_no_proxy(&self, pod: &PodName) -> Option<String> {
        let found = self.pods(&pod.namespace).get_opt(&pod.name).await;
        match found {
            Ok(None) => Some(format!(
                "there is no pod {} in namespace {}; is -n right?",
                pod.name, pod.namespace
            )),
            Ok(Some(found)) if !target::has_proxy(&found) => {
                Some(format!("pod {pod} has no {PROXY}: it is not part of the mesh"))
            }
            Ok(Some(found)) if !target::is_running(&found) => Some(format!("pod {pod} does not run")),
            _ => None,
        }
    }

    /// Asks a port inside a pod, where it may listen on loopback only.
    pub(crate) async fn ask(&self, pod: &PodName, port: u16, method: Method, path: &str) -> Result<Reply> {
        let forward = forward::open(self, pod, port).await?;
        let host = format!("localhost:{port}");
        match crate::http::ask(forward.stream, method, &host, path, None).await {
            Ok(reply) => Ok(reply),
            Err(error) => match forward::reason(forward.error).await {
                Some(reason) => Err(error.context(reason.trim().to_owned())),
                None => Err(error),
            },
        }
        .with_context(|| format!("port {port} of pod {pod}"))
    }
}
