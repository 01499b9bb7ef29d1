//! What the control plane asks of its cluster and writes into it, beside reading objects.
//!
//! - [`authority`]: the CA's key lives in a Secret, so that all replicas and all later starts sign alike.
//! - [`reviews`]: the API server says whose a token is.
//! - [`lease`]: of several replicas one writes.
//! - [`roots`]: the roots of trust as a ConfigMap in every namespace, for the proxies there.
//! - [`bundles`]: webhooks are told by which CA to know us.
//! - [`statuses`]: objects are told what became of them.
//! - [`uninjected`]: gateways that were made before the webhook are made anew.

pub(super) mod authority;
mod bundles;
mod lease;
pub(super) mod reviews;
mod roots;
mod statuses;
mod uninjected;

use anyhow::{Context, Result};
use kube::Client;
use mesh_api::names::ROOT_NAMESPACE;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::model::Model;
use crate::source::Home;
use crate::source::kubernetes::{self, Statuses};

/// The cluster that this control plane is in charge of.
#[derive(Clone)]
pub struct Cluster {
    /// Its API server.
    pub client: Client,
    /// Our own namespace, with the settings and the CA's Secret, and our revision.
    pub home: Home,
    /// What tells replicas apart.
    pub identity: String,
}

impl Cluster {
    /// The cluster of the environment: `POD_NAMESPACE`, `REVISION` and `POD_NAME` as Istio's chart sets them.
    pub(super) async fn connect() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let revision = variable("REVISION").filter(|r| r != "default").unwrap_or_default();
        Ok(Cluster {
            client: kubernetes::client().await.context("--source kubernetes")?,
            home: Home {
                namespace: variable("POD_NAMESPACE").unwrap_or_else(|| ROOT_NAMESPACE.to_owned()),
                revision,
            },
            identity: variable("POD_NAME").unwrap_or_else(|| format!("mesh-control-{}", std::process::id())),
        })
    }

    /// Names by which the API server and proxies know us.
    pub(super) fn names(&self) -> [String; 2] {
        let service = format!("{}.{}.svc", self.home.named("istiod"), self.home.namespace);
        [format!("{service}.cluster.local"), service]
    }

    /// Begins to write, whenever this replica is the one that does.
    pub(super) fn write(
        &self,
        roots: &str,
        model: &Model,
        statuses: Option<Statuses>,
        tasks: &mut JoinSet<Result<()>>,
        stopping: &watch::Receiver<bool>,
    ) {
        let leading = lease::Leading::begin(self, "mesh-control-leader", tasks, stopping);
        tasks.spawn(roots::keep(
            self.clone(),
            roots.to_owned(),
            model.clone(),
            leading.clone(),
            stopping.clone(),
        ));
        tasks.spawn(bundles::keep(
            self.clone(),
            roots.to_owned(),
            leading.clone(),
            stopping.clone(),
        ));
        tasks.spawn(uninjected::keep(self.clone(), leading.clone(), stopping.clone()));
        if let Some(statuses) = statuses {
            tasks.spawn(statuses::keep(
                self.clone(),
                statuses,
                model.clone(),
                leading,
                stopping.clone(),
            ));
        }
    }
}
