//! `verify-install`: whether everything that was installed is there and runs.

use anyhow::{Context as _, Result, bail};
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::What;
use super::helm::Helm;
use super::release;
use crate::cluster::{Cluster, ClusterOptions};
use crate::output::Done;

/// What to check.
#[derive(clap::Args)]
#[command(
    after_help = "Without settings the releases that are installed are checked; with some (-f, --set), what they would install."
)]
pub(crate) struct Options {
    #[command(flatten)]
    what: What,
}

/// Checks, and says what is missing.
pub(crate) async fn run(options: &Options, at: &ClusterOptions) -> Result<Done> {
    let cluster = Cluster::connect(at).await?;
    let what = &options.what;
    let manifests = if what.set.is_empty() && what.files.is_empty() && what.manifests.is_none() {
        let releases = release::all(&cluster, &what.revision).await?;
        if releases.is_empty() {
            bail!(
                "nothing is installed by Helm in namespace {}; is -i right? `meshctl install` installs the mesh",
                cluster.root
            );
        }
        releases.iter().map(|r| format!("---\n{}\n", r.manifest)).collect()
    } else {
        let version = super::server_version(&cluster).await?;
        what.plan()?.manifests(&Helm::new(at), Some(&version)).await?
    };
    check(&cluster, &manifests).await
}

/// Looks for every object of the manifests.
pub(super) async fn check(cluster: &Cluster, manifests: &str) -> Result<Done> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifests).context("the manifests")?;
    let (mut text, mut crds, mut deployments, mut wrong) = (String::new(), 0, 0, 0);
    for document in documents.iter().filter(|d| d.is_object()) {
        let object = Wanted::of(document)?;
        match object.state(cluster).await? {
            None => {
                text.push_str(&format!("✔ {object} checked successfully\n"));
                crds += usize::from(object.kind.kind == "CustomResourceDefinition");
                deployments += usize::from(object.kind.kind == "Deployment");
            }
            Some(fault) => {
                text.push_str(&format!("✘ {object}: {fault}\n"));
                wrong += 1;
            }
        }
    }
    text.push_str(&format!("Checked {crds} custom resource definitions\n"));
    text.push_str(&format!("Checked {deployments} Istio Deployments\n"));
    if wrong == 0 {
        text.push_str("✔ Istio is installed and verified successfully\n");
    } else {
        text.push_str(&format!("✘ {wrong} of the objects are not as they should be\n"));
    }
    Ok(Done {
        text,
        code: u8::from(wrong > 0),
    })
}

/// An object that should be there.
struct Wanted {
    kind: GroupVersionKind,
    name: String,
    namespace: Option<String>,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.kind, self.name)?;
        match &self.namespace {
            Some(namespace) => write!(f, ".{namespace}"),
            None => Ok(()),
        }
    }
}

impl Wanted {
    fn of(document: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let version = text(&document["apiVersion"]).context("a manifest without apiVersion")?;
        let kind = text(&document["kind"]).context("a manifest without kind")?;
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        Ok(Wanted {
            kind: GroupVersionKind::gvk(group, version, &kind),
            name: text(&document["metadata"]["name"]).context("a manifest without a name")?,
            namespace: text(&document["metadata"]["namespace"]),
        })
    }

    /// What is wrong with it, if anything is.
    async fn state(&self, cluster: &Cluster) -> Result<Option<String>> {
        let resource = ApiResource::from_gvk(&self.kind);
        let client = cluster.client.clone();
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let found = api.get_opt(&self.name).await;
        let Some(object) = found.with_context(|| self.to_string())? else {
            return Ok(Some("it is not there".to_owned()));
        };
        let status = &object.data["status"];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        Ok(match self.kind.kind.as_str() {
            "Deployment" => {
                let wanted = object.data["spec"]["replicas"].as_u64().unwrap_or(1);
                let ready = number(&status["availableReplicas"]);
                (ready < wanted).then(|| format!("{ready} of {wanted} pods are ready"))
            }
            "DaemonSet" => {
                let (wanted, ready) = (
                    number(&status["desiredNumberScheduled"]),
                    number(&status["numberReady"]),
                );
                (ready < wanted).then(|| format!("{ready} of {wanted} pods are ready"))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_manifests_are_named() {
        let document = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "istiod", "namespace": "istio-system"}});
        assert_eq!(
            Wanted::of(&document).expect("an object").to_string(),
            "Deployment: istiod.istio-system"
        );
        let document = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
        assert_eq!(Wanted::of(&document).expect("an object").to_string(), "Namespace: a");
        assert!(Wanted::of(&serde_json::json!({"kind": "Pod"})).is_err());
    }
}
