//! The commands, and who does them.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use mesh_control::cli_inject::KubeInject;

use crate::cluster::ClusterOptions;
use crate::output::Done;
use crate::{analyze, completion, dashboard, describe, install, proxy_config, proxy_status, version};

/// Install the mesh, look into it, and find out what is wrong with it.
#[derive(Parser)]
#[command(name = "meshctl", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cluster: ClusterOptions,
}

const EXAMPLES: &str = "\
Examples:
  Install the mesh, and put the pods of a namespace into it (those that start from now on):
    meshctl install -y --set profile=demo
    kubectl label namespace default istio-injection=enabled
  Is anything wrong with what is configured?
    meshctl analyze -A
  Which proxies are connected, and do they hold what they should?
    meshctl proxy-status
  Where does the proxy of a Deployment send requests?
    meshctl proxy-config route deploy/webapp.shop
    meshctl pc endpoint deploy/webapp -n shop --cluster 'outbound|80||catalog.shop.svc.cluster.local'
  What does the proxy on this machine (or in this pod) hold, or one of which there is a dump?
    meshctl proxy-config all
    meshctl pc route -f dump.json | grep catalog";

#[derive(Subcommand)]
enum Command {
    /// Install the mesh into the cluster, or change what is installed
    #[command(visible_aliases = ["upgrade", "apply"])]
    Install(install::Options),
    /// Take the mesh out of the cluster
    Uninstall(install::uninstall::Options),
    /// Check that everything that was installed is there and runs
    VerifyInstall(install::verify::Options),
    /// Show what can be installed
    #[command(subcommand)]
    Profile(install::profile::Profile),
    /// Work on the manifests of an installation
    #[command(subcommand)]
    Manifest(install::Manifest),
    #[command(flatten)]
    Look(Look),
    /// Show what a proxy was configured with
    #[command(visible_alias = "pc")]
    ProxyConfig(proxy_config::Options),
    /// Find what is wrong with objects: of files, of the cluster, or of the cluster as it would be with these files
    Analyze(analyze::Options),
    /// Where istioctl has describe, precheck and proxy-status
    #[command(subcommand, visible_alias = "x", hide = true)]
    Experimental(Look),
    /// Forward a page of the mesh, or of an addon, to this machine
    #[command(subcommand, visible_aliases = ["dash", "d"])]
    Dashboard(dashboard::Page),
    /// Inject the proxy into the Pods of a file
    KubeInject(KubeInject),
    /// Print the versions of this program, the control plane and the proxies
    Version(version::Options),
    /// Print the script by which a shell completes meshctl's words
    Completion(completion::Options),
}

/// What stands by itself, and under `experimental` too.
#[derive(Subcommand)]
enum Look {
    /// Check that the mesh can be installed
    Precheck,
    /// Show which proxies are connected, and whether they hold what they should
    #[command(visible_alias = "ps")]
    ProxyStatus(proxy_status::Options),
    /// Show what the mesh makes of a pod or a service
    #[command(subcommand)]
    Describe(describe::What),
}

/// Does what is asked.
pub(crate) fn run(cli: Cli) -> Result<Done> {
    // One provider is compiled in; a second call finds it set.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let cluster = &cli.cluster;
    runtime.block_on(async {
        match cli.command {
            Command::Install(options) => install::run(&options, cluster).await,
            Command::Uninstall(options) => install::uninstall::run(&options, cluster).await.map(Done::from),
            Command::VerifyInstall(options) => install::verify::run(&options, cluster).await,
            Command::Profile(command) => install::profile::run(&command).map(Done::from),
            Command::Manifest(command) => install::manifest(&command, cluster).await.map(Done::from),
            Command::Look(look) | Command::Experimental(look) => match look {
                Look::Precheck => install::precheck::run(cluster).await,
                Look::ProxyStatus(options) => proxy_status::run(&options, cluster).await.map(Done::from),
                Look::Describe(what) => describe::run(&what, cluster).await.map(Done::from),
            },
            Command::ProxyConfig(options) => proxy_config::run(&options, cluster).await.map(Done::from),
            Command::Analyze(options) => analyze::run(&options, cluster).await,
            Command::Dashboard(page) => dashboard::run(&page, cluster).await.map(Done::from),
            Command::KubeInject(options) => options.run().map(|text| text.unwrap_or_default().into()),
            Command::Version(options) => version::run(&options, cluster).await.map(Done::from),
            Command::Completion(options) => Ok(completion::run(&options).into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_for_the_cluster_stand_before_and_after_the_command() {
        for line in [
            "meshctl -n shop proxy-config cluster web",
            "meshctl proxy-config cluster web -n shop",
            "meshctl pc c web --namespace shop",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).map_err(|e| e.to_string());
            let cli = cli.unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(cli.cluster.namespace.as_deref(), Some("shop"), "{line}");
        }
        for line in [
            "meshctl kube-inject -f - -n shop",
            "meshctl x describe pod web",
            "meshctl experimental ps -v 1",
            "meshctl x precheck",
            "meshctl upgrade -y",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
