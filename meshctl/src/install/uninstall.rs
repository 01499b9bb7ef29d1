//! `uninstall`: releases of our charts, and with `--purge` everything else that the mesh has left.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::core::NamespaceResourceScope;

use super::Confirmation;
use super::helm::Helm;
use super::progress::EACH;
use super::release::{self, Release};
use crate::cluster::{Cluster, ClusterOptions};
use crate::control::{CONTROL, Revision};

/// Secret with the key of the CA that the control plane made.
const CA: &str = "istio-ca-secret";
/// ConfigMap with the roots of trust, in every namespace.
const ROOTS: &str = "istio-ca-root-cert";
/// Leases of the control plane begin so.
const LEASES: &str = "mesh-control-";

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
            options
                .revision
                .revision
                .as_ref()
                .map(|r| format!(" with revision {r}"))
                .unwrap_or_default(),
            cluster.root
        );
    }
    if !options.purge && options.revision.name().is_none() && several(&releases) {
        bail!(
            "there are several control planes: {names}; say which with --revision NAME (or default), or take --purge"
        );
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
    }
    if options.purge {
        let mut roots: BTreeSet<String> = releases.into_iter().map(|r| r.namespace).collect();
        roots.insert(cluster.root.clone());
        for root in &roots {
            purge(&cluster, root).await?;
        }
        purge_all(&cluster).await?;
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

/// What control planes have left in their namespace. One that is on its way out would write it again, so it has to be gone.
async fn purge(cluster: &Cluster, root: &str) -> Result<()> {
    let end = Instant::now() + GONE;
    let list = ListParams::default().labels(CONTROL);
    while !cluster.pods(root).list(&list).await.context("pods")?.items.is_empty() {
        if Instant::now() >= end {
            bail!("the control plane's pods in namespace {root} still run after {GONE:?}; run the command again");
        }
        tokio::time::sleep(EACH).await;
    }
    remove::<Secret>(cluster, root, CA).await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), root);
    for lease in leases.list(&ListParams::default()).await.context("leases")? {
        let name = lease.metadata.name.unwrap_or_default();
        if name.starts_with(LEASES) {
            remove::<Lease>(cluster, root, &name).await?;
        }
    }
    Ok(())
}

/// What they have left elsewhere.
async fn purge_all(cluster: &Cluster) -> Result<()> {
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
