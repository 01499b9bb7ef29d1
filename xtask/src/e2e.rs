//! `cargo xtask e2e`: the mesh on a real Kubernetes, from the cluster to the table.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{command, output, timed};
use crate::{cargo, cluster, helm, images, setup};

/// What to run, and where.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only scenarios whose name contains this.
    filter: Option<String>,
    /// A cluster of yours, whose nodes can pull the images of --hub. Without it, that of `cargo xtask cluster`, made if need be.
    #[arg(long, value_name = "FILE", requires = "hub")]
    kubeconfig: Option<PathBuf>,
    /// Registry and folder of the images.
    #[arg(long, requires = "kubeconfig")]
    hub: Option<String>,
    /// Leave the cluster, the mesh, and the namespaces of failed scenarios.
    #[arg(long)]
    keep: bool,
    /// Nodes beside the control plane of a cluster that is made.
    #[arg(long)]
    workers: Option<u32>,
    /// Print the scenarios and end.
    #[arg(long)]
    list: bool,
}

/// Release, and namespace.
const MESH: (&str, &str) = ("istio", "istio-system");
/// Small machines run tests: one of each, and little asked for.
const VALUES: [&str; 5] = [
    "pilot.autoscaleEnabled=false",
    "gateways.istio-ingressgateway.autoscaling.enabled=false",
    "gateways.istio-ingressgateway.service.type=NodePort",
    "meshConfig.accessLogFile=/dev/stdout",
    "global.proxy.resources.requests.cpu=10m",
];

/// Runs it all; what was made for it is taken down at the end.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        cargo::run("the build", &["build", "-p", "e2e", "--bin", "e2e-kubernetes"])?;
        return scenarios(options, Path::new("")).map(drop);
    }
    setup::packages()?;
    let made = match &options.kubeconfig {
        Some(_) => false,
        None => {
            println!("[1/4] A cluster");
            cluster::ensure(options.workers)?
        }
    };
    let kubeconfig = options.kubeconfig.clone().unwrap_or_else(cluster::kubeconfig);
    let outcome = in_cluster(options, &kubeconfig);
    if made && !options.keep {
        println!("\nTaking the cluster down");
        cluster::remove()?;
    } else if options.kubeconfig.is_none() {
        println!("\nThe cluster stays up: export KUBECONFIG={}", kubeconfig.display());
    }
    outcome
}

fn in_cluster(options: &Options, kubeconfig: &Path) -> Result<()> {
    println!("[2/4] Programs and images");
    cargo::run("the build", &["build", "--workspace", "--bins"])?;
    if options.hub.is_none() {
        images::load_plain()?;
    }
    println!("[3/4] helm upgrade --install");
    install(options, kubeconfig)?;
    println!("[4/4] Scenarios");
    let passed = scenarios(options, kubeconfig)?;
    if !options.keep {
        timed("helm uninstall leaves what docs/install.md names, and no more", || {
            uninstall(kubeconfig)
        })?;
    }
    if !passed {
        bail!("some scenarios failed; the table says which");
    }
    Ok(())
}

fn install(options: &Options, kubeconfig: &Path) -> Result<()> {
    let mut install = helm::helm()?;
    install
        .args(["upgrade", "--install", MESH.0])
        .arg(helm::charts().join("mesh"));
    install.args(["-n", MESH.1, "--create-namespace", "--wait", "--timeout", "300s"]);
    install.arg("--kubeconfig").arg(kubeconfig);
    for value in VALUES {
        install.args(["--set", value]);
    }
    let hub = options.hub.as_deref().unwrap_or(images::HUB);
    install.args(["--set", &format!("global.hub={hub}")]);
    timed("the mesh", || output(install.stdin(Stdio::null()))).map_err(|error| {
        let state = kubectl(kubeconfig, &["-n", MESH.1, "get", "pods,events", "-o", "wide"]);
        error.context(output(&mut { state }).unwrap_or_default())
    })?;
    Ok(())
}

/// Whether all passed.
fn scenarios(options: &Options, kubeconfig: &Path) -> Result<bool> {
    let mut run = Command::new(cargo::bin_dir().join("e2e-kubernetes"));
    run.args(&options.filter).arg("--kubeconfig").arg(kubeconfig);
    run.arg("--out").arg(cargo::target_dir().join("e2e"));
    if let Some(hub) = &options.hub {
        run.args(["--image", &format!("{hub}/sample:{}", env!("CARGO_PKG_VERSION"))]);
    }
    if options.keep {
        run.arg("--keep");
    }
    if options.list {
        run.arg("--list");
    }
    let status = run
        .stdin(Stdio::null())
        .status()
        .context("cannot start e2e-kubernetes")?;
    Ok(status.success())
}

/// Uninstalls, and looks at what is left.
fn uninstall(kubeconfig: &Path) -> Result<()> {
    let mut uninstall = helm::helm()?;
    uninstall.args(["uninstall", MESH.0, "-n", MESH.1, "--wait"]);
    uninstall.arg("--kubeconfig").arg(kubeconfig);
    output(uninstall.stdin(Stdio::null()))?;
    let left = |args: &[&str]| output(&mut kubectl(kubeconfig, &[&["get"], args, &["-o", "name"]].concat()));
    for kinds in [
        "mutatingwebhookconfiguration,validatingwebhookconfiguration",
        "clusterrole,clusterrolebinding",
    ] {
        let found = left(&[kinds])?;
        if let Some(line) = found.lines().find(|l| l.contains("istio") || l.contains("mesh")) {
            bail!("{line} is still there");
        }
    }
    // The cluster's garbage collector takes them, once their owner is gone.
    for _ in 0..60 {
        let found = left(&["configmaps", "-A", "--field-selector=metadata.name=istio-ca-root-cert"])?;
        if found.is_empty() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    bail!("ConfigMaps istio-ca-root-cert are still there")
}

fn kubectl(kubeconfig: &Path, args: &[&str]) -> Command {
    let mut kubectl = command("kubectl", &["--kubeconfig", &kubeconfig.display().to_string()]);
    kubectl.args(args);
    kubectl
}
