//! Gateways whose Pods were made before the webhook was there.
//!
//! Their only container has the image `auto`, which the webhook replaces: without it the Pod waits for ever. Helm creates
//! webhook configurations last, so a chart that holds the control plane and a gateway comes into this by itself. Such a Pod
//! is deleted once the webhook would be asked for it; its controller makes it anew.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use mesh_api::k8s::LabelSelector;
use mesh_api::names::label;
use tokio::sync::watch;
use tracing::{info, warn};

use super::Cluster;
use super::lease::Leading;
use crate::inject::selector;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3);
/// The image that stands for that of the proxy.
const AUTO: &str = "auto";

type Labels = BTreeMap<String, String>;

/// Looks for such Pods in our own namespace, for as long as the program runs.
pub(super) async fn keep(cluster: Cluster, mut leading: Leading, mut stopping: watch::Receiver<bool>) -> Result<()> {
    while leading.turn(LOOK, &mut stopping).await {
        if let Err(error) = look(&cluster).await {
            warn!(%error, "cannot look after gateways that were made before the webhook; delete Pods that wait for image {AUTO:?}");
        }
    }
    Ok(())
}

async fn look(cluster: &Cluster) -> kube::Result<()> {
    let home = &cluster.home;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &home.namespace);
    let asking = ListParams::default().labels(&format!("{}=true", label::INJECT));
    let mut waiting = pods.list(&asking).await?.items;
    waiting.retain(waits);
    if waiting.is_empty() {
        return Ok(());
    }
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespace = namespaces
        .get(&home.namespace)
        .await?
        .metadata
        .labels
        .unwrap_or_default();
    let configs: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let configs = configs.list(&ListParams::default()).await?;
    let hooks = configs.items.into_iter().flat_map(|c| c.webhooks.unwrap_or_default());
    let service = home.named("istiod");
    let ours: Vec<_> = hooks.filter(|h| leads_to(h, &service, &home.namespace)).collect();
    for pod in waiting {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        if !ours.iter().any(|h| asks(h, &namespace, &labels)) {
            continue;
        }
        let name = pod.name_any();
        let this = Preconditions {
            uid: pod.metadata.uid.clone(),
            ..Preconditions::default()
        };
        match pods.delete(&name, &DeleteParams::default().preconditions(this)).await {
            Ok(_) => info!(
                pod = name,
                "was made before the webhook, without a proxy; deleted, to be made anew"
            ),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether it was not injected, waits for it, and comes back when it is deleted.
fn waits(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let auto = containers.into_iter().any(|c| c.image.as_deref() == Some(AUTO));
    let made = pod.owner_references().iter().any(|o| o.controller == Some(true));
    auto && made && pod.metadata.deletion_timestamp.is_none()
}

/// Whether a webhook is this service's, and works: the API server knows our certificate.
fn leads_to(hook: &MutatingWebhook, service: &str, namespace: &str) -> bool {
    let client = &hook.client_config;
    let ours = client
        .service
        .as_ref()
        .is_some_and(|s| s.name == service && s.namespace == namespace);
    ours && client.ca_bundle.as_ref().is_some_and(|b| !b.0.is_empty())
}

/// Whether a webhook is asked about a Pod with these labels.
fn asks(hook: &MutatingWebhook, namespace: &Labels, pod: &Labels) -> bool {
    let selects = |selector: &Option<_>, labels: &Labels| {
        let value = serde_json::to_value(selector).unwrap_or_default();
        // No selector selects everything.
        serde_json::from_value::<Option<LabelSelector>>(value)
            .is_ok_and(|s| s.is_none_or(|s| selector::selects(&s, labels)))
    };
    selects(&hook.namespace_selector, namespace) && selects(&hook.object_selector, pod)
}
