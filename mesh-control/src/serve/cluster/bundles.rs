//! Webhook configurations that lead to us: the API server is told by which roots to know our certificate.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Cluster;
use super::lease::Leading;

/// Between two looks: whoever installs or upgrades the chart writes them anew, without a bundle.
const LOOK: Duration = Duration::from_secs(2);

/// Keeps the bundles right, for as long as the program runs.
pub(super) async fn keep(
    cluster: Cluster,
    roots: String,
    mut leading: Leading,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let bundle = base64::engine::general_purpose::STANDARD.encode(roots);
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
    while leading.turn(LOOK, &mut stopping).await {
        look(&cluster, &mutating, &bundle).await;
        look(&cluster, &validating, &bundle).await;
    }
    Ok(())
}

async fn look<K>(cluster: &Cluster, api: &Api<K>, bundle: &str)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let kind = K::kind(&());
    let all = match api.list(&ListParams::default()).await {
        Ok(all) => all,
        Err(error) => return warn!(%error, "cannot list {kind}s; their CA bundles may be old"),
    };
    for config in all {
        let value = serde_json::to_value(&config).unwrap_or_default();
        let changes = changes(&value, &cluster.home.named("istiod"), &cluster.home.namespace, bundle);
        if changes.is_empty() {
            continue;
        }
        let name = config.name_any();
        let patch = match serde_json::from_value(Value::Array(changes)) {
            Ok(patch) => Patch::<()>::Json(patch),
            Err(error) => return warn!(%error, "{kind} {name}"),
        };
        match api.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => info!("{kind} {name} has our roots now"),
            Err(error) => warn!(%error, "cannot write the CA bundle of {kind} {name}"),
        }
    }
}

/// A JSON patch for the webhooks that lead to this service and have another bundle.
fn changes(config: &Value, service: &str, namespace: &str, bundle: &str) -> Vec<Value> {
    let mut out = Vec::new();
    for (index, webhook) in config["webhooks"].as_array().into_iter().flatten().enumerate() {
        let client = &webhook["clientConfig"];
        let ours = client["service"]["name"] == service && client["service"]["namespace"] == namespace;
        if ours && client["caBundle"] != bundle {
            // Should somebody have changed the list meanwhile, nothing is written.
            out.push(json!({"op": "test", "path": format!("/webhooks/{index}/name"), "value": webhook["name"]}));
            out.push(json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle}));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webhooks_that_lead_to_us_and_are_old_are_changed() {
        let webhook = |service: &str, bundle: &str| {
            json!({"name": format!("{service}.x"), "clientConfig": {"caBundle": bundle,
                "service": {"name": service, "namespace": "istio-system", "path": "/inject"}}})
        };
        let config = json!({"webhooks": [webhook("other", "old"), webhook("istiod", "new"), webhook("istiod", "old")]});
        let changes = |service| changes(&config, service, "istio-system", "new");
        assert_eq!(
            changes("istiod"),
            [
                json!({"op": "test", "path": "/webhooks/2/name", "value": "istiod.x"}),
                json!({"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": "new"}),
            ]
        );
        assert!(changes("istiod-canary").is_empty());
    }
}
