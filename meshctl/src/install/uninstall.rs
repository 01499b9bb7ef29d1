//! `uninstall`: releases of our charts, and with `--purge` everything else that the mesh has left.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::core::NamespaceResourceScope;
use mesh_api::names::label;

use super::Confirmation;
use super::OWNER;
use super::helm::Helm;
use super::progress::EACH;
use super::release::{self, Release};
use crate::cluster::{Cluster, ClusterOptions};
use crate::control::{CONTROL, DEFAULT, Revision};

/// Secret with the key of the CA that the control plane made.
const CA: &str = "istio-ca-secret";
/// ConfigMap with the roots of trust, in every namespace.
const ROOTS: &str = "istio-ca-root-cert";
/// Nobody's control plane takes longer to stop.
const GONE: Duration = Duration::from_secs(120);

/// What to take away.
#[derive(clap::Args)]
#[command(after_help = "\
Without --purge the CRDs with all objects of their kinds, and the Secret with the CA's key, stay where they are. The
namespace of the control plane stays in any case.
Take the proxies out of the pods first: remove the label of their namespaces and restart the workloads.")]
pub(crate) struct Options {
    #[command(flatten)]
    revision: Revision,
    /// Everything of every control plane in every namespace: CRDs with the objects of their kinds, and the CA's key
    #[arg(long, conflicts_with = "revision")]
    purge: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Takes it away, with a line for each thing.
pub(crate) async fn run(options: &Options, at: &ClusterOptions) -> Result<String> {
    let cluster = Cluster::connect(at).await?;
    let mut releases = if options.purge {
        release::everywhere(&cluster).await?
    } else {
        release::all(&cluster, &options.revision).await?
    };
    let names: Vec<String> = releases.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    if releases.is_empty() && !options.purge {
        bail!(
            "no release of the mesh{} is in namespace {}; is -i right? Nothing was removed",
            match &options.revision.revision {
                Some(revision) => format!(" with revision {revision}"),
                None => String::new(),
            },
            cluster.root
        );
    }
    if !options.purge && options.revision.name().is_none() && several(&releases) {
        bail!(
            "there are several control planes: {names}; say which with --revision NAME (or default), or take --purge"
        );
    }
    if options.purge {
        alone(&cluster, &releases).await?;
    }
    let more = if options.purge {
        " All CRDs of the mesh go too, with every object of their kinds, and the CA's key."
    } else {
        ""
    };
    let names = if names.is_empty() { "no release" } else { &names };
    options.confirmation.ask(&format!(
        "This will remove from the cluster: {names}.{more} Proceed? (y/N) "
    ))?;
    let helm = Helm::new(at);
    // The one with the CRDs and roles last.
    releases.sort_by_key(|r| (r.revision().is_empty(), r.name.clone()));
    for release in &releases {
        helm.uninstall(&release.name, &release.namespace).await?;
        say(&format!("  Removed release {}.{}.", release.name, release.namespace));
        if release.has_control_plane() {
            stopped(&cluster, release).await?;
        }
    }
    if options.purge {
        let mut roots: BTreeSet<String> = releases.into_iter().map(|r| r.namespace).collect();
        roots.insert(cluster.root.clone());
        for root in &roots {
            remove::<Secret>(&cluster, root, CA).await?;
        }
        purge(&cluster).await?;
    }
    say("✔ Uninstall complete");
    let root = &cluster.root;
    Ok(format!(
        "Namespace {root} is left as it is; `kubectl delete namespace {root}` removes it with what is in it.\n"
    ))
}

/// Whether there is more than one control plane among them.
fn several(releases: &[Release]) -> bool {
    let revisions: BTreeSet<&str> = releases.iter().map(Release::revision).collect();
    revisions.len() > 1
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // Nobody may be listening; the rest goes on.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Waits until a control plane is gone: on its way out it would write again what is removed.
async fn stopped(cluster: &Cluster, release: &Release) -> Result<()> {
    let end = Instant::now() + GONE;
    let revision = match release.revision() {
        "" => DEFAULT,
        revision => revision,
    };
    let list = ListParams::default().labels(&format!("{CONTROL},{}={revision}", label::REVISION));
    let pods = cluster.pods(&release.namespace);
    while !pods.list(&list).await.context("pods")?.items.is_empty() {
        if Instant::now() >= end {
            bail!("the pods of release {release} still run after {GONE:?}; what they would write again stays");
        }
        tokio::time::sleep(EACH).await;
    }
    Ok(())
}

/// Refuses to purge what others need: control planes that are not of these releases, such as Istio's.
async fn alone(cluster: &Cluster, releases: &[Release]) -> Result<()> {
    let deployments: Api<Deployment> = Api::all(cluster.client.clone());
    let list = ListParams::default().labels(CONTROL);
    let found = deployments.list(&list).await.context("Deployments")?;
    let others = others(found.items, releases);
    if !others.is_empty() {
        bail!(
            "--purge would take CRDs that others need: {} is of no release of the mesh; uninstall it first, or leave --purge \
             out. Nothing was removed",
            others.join(", ")
        );
    }
    Ok(())
}

/// `NAME.NAMESPACE` of control planes that are of none of the releases.
fn others(found: Vec<Deployment>, releases: &[Release]) -> Vec<String> {
    let mut out = Vec::new();
    for deployment in found {
        let meta = deployment.metadata;
        let namespace = meta.namespace.unwrap_or_default();
        let owner = meta.annotations.as_ref().and_then(|a| a.get(OWNER));
        if !releases
            .iter()
            .any(|r| r.namespace == namespace && Some(&r.name) == owner)
        {
            out.push(format!("{}.{namespace}", meta.name.unwrap_or_default()));
        }
    }
    out
}

/// What control planes have left all over the cluster.
async fn purge(cluster: &Cluster) -> Result<()> {
    let client = &cluster.client;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let names: Vec<String> = namespaces
        .list(&ListParams::default())
        .await
        .context("namespaces")?
        .into_iter()
        .filter_map(|n| n.metadata.name)
        .collect();
    for namespace in &names {
        remove::<ConfigMap>(cluster, namespace, ROOTS).await?;
    }
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds.list(&ListParams::default()).await.context("CRDs")? {
        let name = crd.metadata.name.unwrap_or_default();
        if crd.spec.group == "istio.io" || crd.spec.group.ends_with(".istio.io") {
            gone(crds.delete(&name, &DeleteParams::default()).await.map(|_| ()))
                .with_context(|| format!("CRD {name}"))?;
            say(&format!(
                "  Removed apiextensions.k8s.io/CustomResourceDefinition//{name}."
            ));
        }
    }
    Ok(())
}

async fn remove<K>(cluster: &Cluster, namespace: &str, name: &str) -> Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), namespace);
    let kind = K::kind(&());
    let there = api
        .get_opt(name)
        .await
        .with_context(|| format!("{kind} {name}.{namespace}"))?;
    if there.is_none() {
        return Ok(());
    }
    let deleted = api.delete(name, &DeleteParams::default()).await.map(|_| ());
    gone(deleted).with_context(|| format!("{kind} {name}.{namespace}"))?;
    say(&format!("  Removed {}/{kind}/{namespace}/{name}.", K::group(&())));
    Ok(())
}

/// Somebody else may have been faster.
fn gone(outcome: kube::Result<()>) -> Result<()> {
    match outcome {
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn release(name: &str, namespace: &str, revision: &str) -> Release {
        let json = json!({"name": name, "namespace": namespace, "config": {"revision": revision},
            "chart": {"metadata": {"name": "mesh", "version": "0.1.0"}}});
        serde_json::from_value(json).expect("a release")
    }

    #[test]
    fn several_control_planes_are_told_from_parts_of_one() {
        let (base, control) = (release("istio-base", "a", ""), release("istiod", "a", ""));
        assert!(!several(&[base.clone(), control]));
        assert!(several(&[base, release("istio-canary", "a", "canary")]));
    }

    #[test]
    fn control_planes_of_others_are_seen() {
        let deployment = |name: &str, namespace: &str, owner: Option<&str>| -> Deployment {
            let annotations = owner.map(|owner| json!({OWNER: owner}));
            serde_json::from_value(
                json!({"metadata": {"name": name, "namespace": namespace, "annotations": annotations}}),
            )
            .expect("a Deployment")
        };
        let releases = [release("istio", "istio-system", ""), release("istio", "mesh", "x")];
        let found = vec![
            deployment("istiod", "istio-system", Some("istio")),
            deployment("istiod-x", "mesh", Some("istio")),
            deployment("istiod-y", "mesh", Some("istio-y")),
            deployment("istiod", "theirs", None),
        ];
        assert_eq!(others(found, &releases), ["istiod-y.mesh", "istiod.theirs"]);
    }
}
