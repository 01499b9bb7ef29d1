//! What the agent asks of the API server for itself.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

/// The agents' DaemonSet.
const DAEMON_SET: &str = "istio-cni-node";
/// The kubelet waits a few seconds for the agent's end.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Somebody else changed the node meanwhile.
const CONFLICTS: u32 = 5;

/// Whether no agent comes after this one: its DaemonSet is gone, or what let it ask is. Where that is not to be known, one
/// comes.
pub(super) async fn is_gone_for_good(client: Option<&Client>, namespace: &str) -> bool {
    let Some(client) = client else { return false };
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    match tokio::time::timeout(TIMEOUT, sets.get_opt(DAEMON_SET)).await {
        Ok(Ok(set)) => set.is_none_or(|set| set.metadata.deletion_timestamp.is_some()),
        Ok(Err(kube::Error::Api(status))) => matches!(status.code, 401 | 403 | 404),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Sets or removes a taint of the node.
///
/// # Errors
/// When the API server refuses.
pub(super) async fn taint(client: &Client, name: &str, key: &str, set: bool) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    for attempt in 1.. {
        let node = nodes.get(name).await?;
        let before = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let Some(after) = changed(&before, key, set) else {
            return Ok(());
        };
        // All of the list is written, so nobody else may have changed it.
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"taints": after},
        });
        match nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < CONFLICTS => {}
            other => {
                other?;
                tracing::info!(node = name, "taint {key} {}", if set { "set" } else { "removed" });
                return Ok(());
            }
        }
    }
    Ok(())
}

fn changed(before: &[Taint], key: &str, set: bool) -> Option<Vec<Taint>> {
    if before.iter().any(|t| t.key == key) == set {
        return None;
    }
    let mut after: Vec<Taint> = before.iter().filter(|t| t.key != key).cloned().collect();
    if set {
        after.push(Taint {
            key: key.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
    }
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_taint_comes_and_goes() {
        let other = Taint {
            key: "other".to_owned(),
            effect: "NoExecute".to_owned(),
            ..Taint::default()
        };
        let before = [other.clone()];
        assert_eq!(changed(&before, "k", false), None);
        let with = changed(&before, "k", true).expect("changed");
        assert_eq!(with.len(), 2);
        assert_eq!(changed(&with, "k", true), None);
        assert_eq!(changed(&with, "k", false), Some(vec![other]));
    }
}
