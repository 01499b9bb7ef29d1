//! Of several replicas one writes: whoever holds a `coordination.k8s.io/v1` Lease.
//!
//! All replicas serve; losing the Lease stops nothing but writing.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{Cluster, owner};

/// A holder that has not been heard of for so long is gone.
const LIFE: Duration = Duration::from_secs(15);
/// Between two looks at the Lease.
const LOOK: Duration = Duration::from_secs(4);

/// Whether this replica writes.
#[derive(Debug, Clone)]
pub(super) struct Leading(watch::Receiver<bool>);

impl Leading {
    /// Tries for the Lease from now on, and gives it back when the program stops.
    pub(super) fn begin(
        cluster: &Cluster,
        name: &str,
        tasks: &mut JoinSet<Result<()>>,
        stopping: &watch::Receiver<bool>,
    ) -> Self {
        let (sender, receiver) = watch::channel(false);
        let holder = Holder {
            api: Api::namespaced(cluster.client.clone(), &cluster.home.namespace),
            name: cluster.home.named(name),
            identity: cluster.identity.clone(),
            owner: None,
            seen: None,
        };
        tasks.spawn(holder.run(cluster.clone(), sender, stopping.clone()));
        Leading(receiver)
    }

    /// Waits until this replica writes.
    async fn until(&mut self) {
        if self.0.wait_for(|leading| *leading).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a pause, and then until this replica writes; false when the program stops.
    pub(super) async fn turn(&mut self, pause: Duration, stopping: &mut watch::Receiver<bool>) -> bool {
        let waited = async {
            tokio::time::sleep(pause).await;
            self.until().await;
        };
        tokio::select! {
            () = waited => true,
            _ = stopping.wait_for(|stop| *stop) => false,
        }
    }

    /// Waits until this begins or ends.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn now(&self) -> bool {
        *self.0.borrow()
    }
}

struct Holder {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// With this it goes.
    owner: Option<OwnerReference>,
    /// Version of the Lease that another holds, and since when we have seen it unchanged: clocks of machines differ, so the
    /// time in it says nothing.
    seen: Option<(String, tokio::time::Instant)>,
}

impl Holder {
    async fn run(
        mut self,
        cluster: Cluster,
        leading: watch::Sender<bool>,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<()> {
        self.owner = owner(&cluster).await;
        loop {
            let holds = match self.look().await {
                Ok(holds) => holds,
                Err(error) => {
                    // Whoever cannot renew it must take it for lost before others take it over.
                    warn!(%error, lease = self.name, "cannot hold the lease");
                    false
                }
            };
            if leading.send_replace(holds) != holds {
                info!(lease = self.name, holds, "writing into the cluster");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stopping.wait_for(|stop| *stop) => break,
            }
        }
        if leading.send_replace(false) {
            // The next one need not wait for its end.
            let _ = self.release().await;
        }
        Ok(())
    }

    async fn look(&mut self) -> kube::Result<bool> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = self.written(Lease::default());
            return took(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder != self.identity && !holder.is_empty() {
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let since = match &self.seen {
                Some((seen, since)) if *seen == version => *since,
                _ => {
                    let now = tokio::time::Instant::now();
                    self.seen = Some((version, now));
                    now
                }
            };
            if since.elapsed() < LIFE {
                return Ok(false);
            }
        }
        let lease = self.written(lease);
        took(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn written(&self, mut lease: Lease) -> Lease {
        let before = lease.spec.take().unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let same = before.holder_identity.as_ref() == Some(&self.identity);
        lease.metadata = ObjectMeta {
            name: Some(self.name.clone()),
            // Held against the version that we looked at.
            resource_version: lease.metadata.resource_version,
            owner_references: self.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LIFE.as_secs()).ok(),
            acquire_time: if same { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!same)),
            ..LeaseSpec::default()
        });
        lease
    }

    async fn release(&self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        let Some(spec) = &mut lease.spec else { return Ok(()) };
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = None;
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

/// False when another was faster.
fn took(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
