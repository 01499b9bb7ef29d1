//! What the control plane asks of its cluster and writes into it, beside reading objects.
//!
//! - [`authority`]: the CA's key lives in a Secret, so that all replicas and all later starts sign alike.
//! - [`reviews`]: the API server says whose a token is.
//! - [`lease`]: of several replicas one writes.
//! - [`roots`]: the roots of trust as a ConfigMap in every namespace, for the proxies there.
//! - [`bundles`]: webhooks are told by which CA to know us.

pub(super) mod authority;
mod bundles;
mod lease;
pub(super) mod reviews;
mod roots;

use anyhow::{Context, Result};
use kube::Client;
use mesh_api::names::ROOT_NAMESPACE;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::source::kubernetes;

/// The cluster that this control plane is in charge of.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    /// Our own, with the settings and the CA's Secret.
    pub(super) namespace: String,
    /// `istio.io/rev`, where several control planes stand side by side; empty for the only one.
    pub(super) revision: String,
    /// What tells replicas apart.
    identity: String,
}

impl Cluster {
    /// The cluster of the environment: `POD_NAMESPACE`, `REVISION` and `POD_NAME` as Istio's chart sets them.
    pub(super) async fn connect() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let revision = variable("REVISION").filter(|r| r != "default").unwrap_or_default();
        Ok(Cluster {
            client: kubernetes::client().await.context("--source kubernetes")?,
            namespace: variable("POD_NAMESPACE").unwrap_or_else(|| ROOT_NAMESPACE.to_owned()),
            revision,
            identity: variable("POD_NAME").unwrap_or_else(|| format!("mesh-control-{}", std::process::id())),
        })
    }

    /// `istio`, or `istio-REVISION`.
    pub(super) fn named(&self, name: &str) -> String {
        if self.revision.is_empty() {
            name.to_owned()
        } else {
            format!("{name}-{}", self.revision)
        }
    }

    /// Names by which the API server and proxies know us.
    pub(super) fn names(&self) -> [String; 2] {
        let service = format!("{}.{}.svc", self.named("istiod"), self.namespace);
        [format!("{service}.cluster.local"), service]
    }

    /// Begins to write, whenever this replica is the one that does.
    pub(super) fn write(&self, roots: &str, tasks: &mut JoinSet<Result<()>>, stopping: &watch::Receiver<bool>) {
        let leading = lease::Leading::begin(self, "mesh-control-leader", tasks, stopping);
        tasks.spawn(roots::keep(
            self.client.clone(),
            roots.to_owned(),
            leading.clone(),
            stopping.clone(),
        ));
        tasks.spawn(bundles::keep(self.clone(), roots.to_owned(), leading, stopping.clone()));
    }
}
