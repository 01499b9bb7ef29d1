//! `cargo xtask e2e`: the mesh on a real Kubernetes, from the cluster to the table.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{command, output, succeeds, timed};
use crate::{cargo, cluster, helm, images, setup};

/// What to run, and where.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only scenarios whose name contains this.
    filter: Option<String>,
    /// A cluster of yours, whose nodes can pull the images of --hub. Without it, that of `cargo xtask cluster`, made if need be.
    #[arg(long, value_name = "FILE", requires = "hub", conflicts_with = "workers")]
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
    /// Only the core set of scenarios, for when time is short.
    #[arg(long)]
    core: bool,
    /// Print the scenarios and end.
    #[arg(long)]
    list: bool,
}

/// Release, and namespace.
const MESH: (&str, &str) = ("istio", "istio-system");
/// Label of the namespace while the release in it is one that this command has made, and may change and uninstall.
const OURS: &str = "e2e.ferromesh/release";
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
        let mut list = scenarios_command(options);
        return ended_well(list.arg("--list")).map(drop);
    }
    setup::packages()?;
    let mut phases = Phases::default();
    let made = match &options.kubeconfig {
        Some(_) => false,
        None => phases.run("cluster", || cluster::ensure(options.workers))?,
    };
    let kubeconfig = options.kubeconfig.clone().unwrap_or_else(cluster::kubeconfig);
    let outcome = in_cluster(options, &kubeconfig, &mut phases);
    if made && !options.keep {
        phases.run("cluster down", cluster::remove)?;
    } else if options.kubeconfig.is_none() {
        println!("\nThe cluster stays up: export KUBECONFIG={}", kubeconfig.display());
    }
    phases.print();
    outcome
}

fn in_cluster(options: &Options, kubeconfig: &Path, phases: &mut Phases) -> Result<()> {
    if options.kubeconfig.is_some() {
        refuse_a_release_of_others(kubeconfig)?;
    }
    phases.run("build", || cargo::run("the build", &["build", "--workspace", "--bins"]))?;
    if options.hub.is_none() {
        phases.run("images", images::load_plain)?;
    }
    phases.run("install", || install(options, kubeconfig))?;
    let passed = phases.run("scenarios", || scenarios(options, kubeconfig))?;
    if !options.keep {
        let _ = output(&mut kubectl(
            kubeconfig,
            &["label", "namespace", MESH.1, &format!("{OURS}-")],
        ));
    }
    if !passed {
        bail!("some scenarios failed; the table says which");
    }
    Ok(())
}

/// The scenarios change the release and uninstall it: one that somebody lives with is not theirs.
fn refuse_a_release_of_others(kubeconfig: &Path) -> Result<()> {
    let namespace = kubectl(kubeconfig, &["get", "namespace", MESH.1, "--ignore-not-found"])
        .args([
            "-o",
            &format!("jsonpath={{.metadata.labels.{}}}", OURS.replace('.', "\\.")),
        ])
        .stdin(Stdio::null())
        .output()
        .context("cannot start kubectl")?;
    if !namespace.status.success() {
        bail!(
            "the cluster of {} does not answer: {}",
            kubeconfig.display(),
            String::from_utf8_lossy(&namespace.stderr).trim()
        );
    }
    if !namespace.stdout.is_empty() {
        return Ok(());
    }
    match output(&mut helm_command(kubeconfig, &["status", MESH.0])?) {
        Ok(_) => {}
        Err(error) if format!("{error:#}").contains("not found") => return Ok(()),
        Err(error) => return Err(error.context("whether the mesh is there already cannot be known")),
    }
    bail!(
        "release {} in namespace {} was there before: the scenarios would change it and uninstall it at the end. Take another \
         cluster; or `helm uninstall {0} -n {1}` first; or, if it may be used and removed, say so by \
         `kubectl label namespace {1} {OURS}={0}`",
        MESH.0,
        MESH.1
    )
}

fn install(options: &Options, kubeconfig: &Path) -> Result<()> {
    if !succeeds(&mut kubectl(kubeconfig, &["get", "namespace", MESH.1])) {
        output(&mut kubectl(kubeconfig, &["create", "namespace", MESH.1]))?;
    }
    let ours = format!("{OURS}={}", MESH.0);
    output(&mut kubectl(
        kubeconfig,
        &["label", "--overwrite", "namespace", MESH.1, &ours],
    ))?;
    let mut install = helm_command(kubeconfig, &["upgrade", "--install", MESH.0])?;
    install.arg(helm::charts().join("mesh"));
    install.args(["--wait", "--timeout", "300s"]);
    for value in VALUES {
        install.args(["--set", value]);
    }
    let hub = options.hub.as_deref().unwrap_or(images::HUB);
    install.args(["--set", &format!("global.hub={hub}")]);
    timed("helm upgrade --install", || output(&mut install)).map_err(|error| {
        let asked = [
            &["get", "pods,events", "-o", "wide"][..],
            &["logs", "deployment/istiod", "--tail=20"],
        ];
        let said = asked.map(|args| {
            let mut kubectl = kubectl(kubeconfig, &["-n", MESH.1]);
            output(kubectl.args(args)).unwrap_or_else(|e| format!("{e:#}"))
        });
        error.context(said.join("\n"))
    })?;
    Ok(())
}

/// Whether all passed.
fn scenarios(options: &Options, kubeconfig: &Path) -> Result<bool> {
    let mut run = scenarios_command(options);
    run.arg("--kubeconfig").arg(kubeconfig);
    run.arg("--out").arg(cargo::target_dir().join("e2e"));
    run.arg("--helm").arg(helm::program()?);
    run.arg("--charts").arg(helm::charts());
    run.arg("--python").arg(helm::python()?);
    if let Some(hub) = &options.hub {
        run.args(["--image", &format!("{hub}/sample:{}", env!("CARGO_PKG_VERSION"))]);
    }
    // Who keeps the mesh keeps the namespaces of failed scenarios; else the last scenario takes all of it away.
    run.arg(if options.keep { "--keep" } else { "--uninstall" });
    ended_well(&mut run)
}

fn scenarios_command(options: &Options) -> Command {
    let mut run = Command::new(cargo::bin_dir().join("e2e-kubernetes"));
    run.args(&options.filter);
    if options.core {
        run.arg("--core");
    }
    run
}

fn ended_well(run: &mut Command) -> Result<bool> {
    let status = run.stdin(Stdio::null()).status();
    Ok(status.context("cannot start e2e-kubernetes")?.success())
}

fn helm_command(kubeconfig: &Path, args: &[&str]) -> Result<Command> {
    let mut helm = command(helm::program()?, args);
    helm.args(["-n", MESH.1]).arg("--kubeconfig").arg(kubeconfig);
    Ok(helm)
}

fn kubectl(kubeconfig: &Path, args: &[&str]) -> Command {
    let mut kubectl = command("kubectl", &["--kubeconfig", &kubeconfig.display().to_string()]);
    kubectl.args(args);
    kubectl
}

/// What was done, and how long each took.
#[derive(Default)]
struct Phases(Vec<(&'static str, Duration)>);

impl Phases {
    fn run<T>(&mut self, name: &'static str, phase: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n── {name}");
        let start = Instant::now();
        let outcome = phase();
        self.0.push((name, start.elapsed()));
        outcome
    }

    fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        let whole: Duration = self.0.iter().map(|(_, took)| *took).sum();
        let parts: Vec<_> = self
            .0
            .iter()
            .map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64()))
            .collect();
        println!("\n{}; in all {:.1} min", parts.join(", "), whole.as_secs_f64() / 60.0);
    }
}
