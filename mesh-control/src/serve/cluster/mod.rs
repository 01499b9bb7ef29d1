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
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client};
use mesh_api::names::ROOT_NAMESPACE;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

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

/// The role of the installation: when it is removed, so is what it owns, in whatever namespace.
async fn owner(cluster: &Cluster) -> Option<OwnerReference> {
    let name = format!(
        "{}-{}",
        cluster.home.named("istiod-clusterrole"),
        cluster.home.namespace
    );
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    match roles.get_opt(&name).await {
        Ok(Some(role)) => Some(OwnerReference {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            name,
            uid: role.metadata.uid?,
            ..OwnerReference::default()
        }),
        Ok(None) => None,
        Err(error) => {
            warn!(%error, "cannot read ClusterRole {name}; what is written into the cluster will outlive an uninstall");
            None
        }
    }
}
