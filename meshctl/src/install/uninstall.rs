//! `uninstall`: releases of our charts, and with `--purge` everything else that the mesh has left.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::core::NamespaceResourceScope;

use super::helm::Helm;
use super::{confirm, release};
use crate::cluster::{Cluster, ClusterOptions};

/// Secret with the key of the CA that the control plane made.
const CA: &str = "istio-ca-secret";
/// ConfigMap with the roots of trust, in every namespace.
const ROOTS: &str = "istio-ca-root-cert";
/// Leases of the control plane begin so.
const LEASES: &str = "mesh-control-";

/// What to take away.
#[derive(clap::Args)]
#[command(after_help = "\
Without --purge the CRDs with all objects of their kinds, and the Secret with the CA's key, stay where they are.
Take the proxies out of the pods first: remove the label of their namespaces and restart the workloads.")]
pub(crate) struct Options {
    /// Only this control plane
    #[arg(long, short, value_name = "NAME")]
    revision: Option<String>,
    /// Everything of every control plane: CRDs with the objects of their kinds, and the CA's key
    #[arg(long, conflicts_with = "revision")]
    purge: bool,
    /// Do not ask
    #[arg(long = "skip-confirmation", short = 'y')]
    yes: bool,
}

/// Takes it away, with a line for each thing.
pub(crate) async fn run(options: &Options, at: &ClusterOptions) -> Result<String> {
    let cluster = Cluster::connect(at).await?;
    let mut releases = release::all(&cluster).await?;
    if let Some(revision) = &options.revision {
        let revision = if revision == "default" { "" } else { revision };
        releases.retain(|r| r.revision() == revision);
    }
    if releases.is_empty() && !options.purge {
        bail!(
            "no release of the mesh is in namespace {}; is -i right? Nothing was removed",
            cluster.root
        );
    }
    if !options.yes {
        let names: Vec<String> = releases.iter().map(|r| format!("{} ({})", r.name, r.chart())).collect();
        let more = if options.purge {
            " All CRDs of the mesh go too, with every object of their kinds, and the CA's key."
        } else {
            ""
        };
        confirm(&format!(
            "This will remove from the cluster: {}.{more} Proceed? (y/N) ",
            names.join(", ")
        ))?;
    }
    let helm = Helm::new(at);
    // The one with the CRDs and roles last.
    releases.sort_by_key(|r| (r.revision().is_empty(), r.name.clone()));
    for release in &releases {
        helm.uninstall(&release.name).await?;
        say(&format!("  Removed release {}.{}.", release.name, cluster.root));
    }
    if options.purge {
        purge(&cluster).await?;
    }
    say("✔ Uninstall complete");
    Ok(String::new())
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // Nobody may be listening; the rest goes on.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

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
    remove::<Secret>(cluster, &cluster.root, CA).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), &cluster.root);
    for lease in leases.list(&ListParams::default()).await.context("leases")? {
        let name = lease.metadata.name.unwrap_or_default();
        if name.starts_with(LEASES) {
            remove::<Lease>(cluster, &cluster.root, &name).await?;
        }
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
