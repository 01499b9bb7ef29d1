//! `describe`: what the mesh makes of a pod or a service.

mod render;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::cluster::target::{Kind, PodName, Target};
use crate::cluster::{Cluster, ClusterOptions};
use crate::objects::{self, Objects};

/// What to describe.
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  meshctl describe pod web-7d9c-x2.shop
  meshctl describe pod deploy/web -n shop
  meshctl describe service web -n shop
  meshctl describe service web.shop -f mesh/          of a mesh without Kubernetes: its folder")]
pub(crate) enum What {
    /// Its services, the rules for them, and whether it takes plaintext
    #[command(visible_alias = "po")]
    Pod(Options),
    /// Its ports, the rules for it, and where it is exposed
    #[command(visible_alias = "svc")]
    Service(Options),
}

/// Which one.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// NAME, NAME.NAMESPACE, or for pods deploy/NAME.NAMESPACE
    #[arg(value_name = "NAME")]
    target: Target,
    /// Files and folders of objects in place of a cluster
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Reads everything, and describes one of it.
pub(crate) async fn run(what: &What, at: &ClusterOptions) -> Result<String> {
    let (What::Pod(options) | What::Service(options)) = what;
    let target = &options.target;
    match (what, target.kind) {
        (What::Pod(_), Kind::Pod) | (What::Service(_), Kind::Pod | Kind::Service) => {}
        (What::Service(_), _) => bail!("{target} is no service; write NAME or NAME.NAMESPACE"),
        (What::Pod(_), _) => {}
    }
    let (objects, mut name, mut namespace);
    if options.files.is_empty() {
        let cluster = Cluster::connect(at).await?;
        objects = Objects::of(objects::of_cluster(&cluster).await?, None);
        name = target.name.clone();
        namespace = target.namespace.clone().unwrap_or_else(|| cluster.namespace.clone());
        if matches!(what, What::Pod(_)) {
            let pod = target.pod(&cluster).await?;
            (name, namespace) = (pod.name, pod.namespace);
        }
    } else {
        let target = Target {
            // Services are named as pods are.
            kind: if target.kind == Kind::Service {
                Kind::Pod
            } else {
                target.kind
            },
            ..target.clone()
        };
        PodName { name, namespace } = target.named(at)?;
        objects = Objects::of(objects::of_files(&options.files)?, None);
    }
    match what {
        What::Pod(_) => render::pod(&objects.store, &namespace, &name),
        What::Service(_) => render::service(&objects.store, &namespace, &name),
    }
}
