//! `install`, and what belongs to it: the charts in this program, `helm`, and waiting until everything runs.

mod chart;
mod helm;
pub(crate) mod precheck;
pub(crate) mod profile;
mod progress;
mod release;
mod settings;
pub(crate) mod uninstall;
pub(crate) mod verify;

use std::fs;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterOptions};
use crate::control::Revision;
use crate::output::Done;
use chart::Chart;
use helm::Helm;
use settings::Settings;

/// Name of the release, where no revision has a say.
const RELEASE: &str = "istio";
/// A CRD that every installation has.
const CRD: &str = "virtualservices.networking.istio.io";

/// Annotations by which Helm knows the release of an object.
const OWNER: &str = "meta.helm.sh/release-name";
const OWNERS_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// What to install.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct What {
    /// A setting, as istioctl has it: profile=demo, meshConfig.accessLogFile=/dev/stdout, values.global.hub=…,
    /// components.egressGateways[0].enabled=true
    #[arg(long, short, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// A file of settings: an IstioOperator, or values of the chart
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    revision: Revision,
    /// Folder of the chart mesh, in place of the one in this program
    #[arg(long, short = 'd', value_name = "FOLDER")]
    manifests: Option<PathBuf>,
}

/// What to install, and how.
#[derive(clap::Args)]
#[command(after_help = "\
Runs the program helm (Helm 3.7 or newer; the variable HELM names another) with the charts that are in meshctl. The release
is called istio, or istio-REVISION.

Examples:
  meshctl install -y
  meshctl install -y --set profile=demo --set meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY
  meshctl install -y --set hub=registry.example.com/mesh --set components.cni.enabled=true
  meshctl install -y -r canary --set profile=minimal       beside the one that is there
  meshctl install --dry-run --set profile=minimal")]
pub(crate) struct Options {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    confirmation: Confirmation,
    /// Print the manifests and change nothing
    #[arg(long = "dry-run")]
    dry_run: bool,
    /// How long everything may take until it runs: 5m, 90s
    #[arg(long = "readiness-timeout", value_name = "TIME", default_value = "5m", value_parser = duration)]
    timeout: Duration,
    /// Check all objects at the end, as verify-install does
    #[arg(long)]
    verify: bool,
}

/// Whether to ask before anything is changed.
#[derive(clap::Args)]
pub(crate) struct Confirmation {
    /// Do not ask
    #[arg(long = "skip-confirmation", short = 'y')]
    yes: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let help = || format!("{text:?} is no time; write 90s, 5m or 1h");
    let unit = text.chars().next_back().ok_or_else(help)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(help()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| help())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(help)
}

/// Everything that helm is given.
pub(crate) struct Plan {
    chart: Chart,
    release: String,
    profile: String,
    values: Value,
    /// Holds the values; goes with the plan.
    file: tempfile::NamedTempFile,
}

impl What {
    /// Reads the settings. The cluster is not asked.
    pub(crate) fn plan(&self) -> Result<Plan> {
        let chart = Chart::unpack(self.manifests.as_deref())?;
        let mut spec = json!({});
        for file in &self.files {
            settings::merge(&mut spec, settings::file(file)?);
        }
        for expression in &self.set {
            settings::set(&mut spec, expression)?;
        }
        if let Some(revision) = self.revision.name() {
            spec["revision"] = json!(revision);
        }
        let Settings { profile, values } = settings::values(&spec, &chart.groups()?)?;
        let mut all = chart.profile(&profile)?;
        settings::merge(&mut all, values);
        let release = match all["revision"].as_str().unwrap_or_default() {
            "" | "default" => RELEASE.to_owned(),
            revision => format!("{RELEASE}-{revision}"),
        };
        if all["revision"] == "default" {
            all["revision"] = json!("");
        }
        let file = tempfile::Builder::new()
            .prefix("meshctl-values")
            .suffix(".json")
            .tempfile();
        let plan = Plan {
            chart,
            release,
            profile,
            values: all,
            file: file.context("cannot make a file for the values")?,
        };
        plan.write()?;
        Ok(plan)
    }
}

impl Plan {
    fn write(&self) -> Result<()> {
        // JSON is YAML.
        let text = format!("{:#}\n", self.values);
        fs::write(self.file.path(), text).context("cannot write the values")
    }

    /// CRDs and roles are there once: those of another release stay with it.
    async fn mind_others(&mut self, cluster: &Cluster) -> Result<()> {
        if !self.values["base"]["enabled"].is_null() {
            return Ok(());
        }
        let crd = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &ApiResource::from_gvk(&crd));
        let present = api
            .get_opt(CRD)
            .await
            .context("the cluster cannot be asked for its CRDs")?;
        let owner = present.and_then(|o| {
            let mut annotations = o.metadata.annotations?;
            let [name, namespace] = [OWNER, OWNERS_NAMESPACE].map(|key| annotations.remove(key));
            Some((name?, namespace?))
        });
        let own = (self.release.clone(), cluster.root.clone());
        if owner.is_some_and(|owner| owner != own) && self.release != RELEASE {
            settings::merge(&mut self.values, json!({"base": {"enabled": false}}));
            self.write()?;
        }
        Ok(())
    }

    /// The manifests as YAML, for a server of this version, or for one that is new.
    pub(crate) async fn manifests(&self, helm: &Helm, server: Option<&str>) -> Result<String> {
        helm.template(&self.release, self.chart.path(), self.file.path(), server)
            .await
    }
}

/// Installs, and waits until everything runs. Progress goes to standard output at once.
pub(crate) async fn run(options: &Options, at: &ClusterOptions) -> Result<Done> {
    let mut plan = options.what.plan()?;
    let helm = Helm::new(at);
    if options.dry_run {
        let version = match Cluster::connect(at).await {
            Ok(cluster) => {
                let version = server_version(&cluster).await?;
                plan.mind_others(&cluster).await?;
                Some(version)
            }
            // What would be installed into a new one is worth something too.
            Err(_) => None,
        };
        return Ok(plan.manifests(&helm, version.as_deref()).await?.into());
    }
    let cluster = Cluster::connect(at).await?;
    server_version(&cluster).await?;
    options.confirmation.ask(&format!(
        "This will install the Ferromesh {} profile \"{}\" into the cluster. Proceed? (y/N) ",
        env!("CARGO_PKG_VERSION"),
        plan.profile
    ))?;
    plan.mind_others(&cluster).await?;
    helm.install(&plan.release, plan.chart.path(), plan.file.path()).await?;
    progress::follow(&cluster, &plan.release, options.timeout).await?;
    if options.verify {
        let mut releases = release::all(&cluster, &options.what.revision).await?;
        releases.retain(|r| r.name == plan.release);
        let manifests: String = releases.into_iter().map(|r| r.manifest).collect();
        return verify::check(&cluster, &manifests).await;
    }
    Ok(String::new().into())
}

/// `1.20.2`, as Helm wants it.
async fn server_version(cluster: &Cluster) -> Result<String> {
    let info = cluster.client.apiserver_version().await;
    let version = info.context("the API server does not answer")?.git_version;
    Ok(version.trim_start_matches('v').to_owned())
}

impl Confirmation {
    /// Asks, where somebody can answer.
    fn ask(&self, question: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("nobody can be asked here; give -y (--skip-confirmation)");
        }
        let mut out = std::io::stdout();
        write!(out, "{question}")?;
        out.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            bail!("cancelled; nothing was changed");
        }
        Ok(())
    }
}

/// `manifest`.
#[derive(clap::Subcommand)]
pub(crate) enum Manifest {
    /// Print what `install` would install
    Generate {
        #[command(flatten)]
        what: What,
        /// For the version of this cluster's server, in place of one that is new
        #[arg(long = "cluster-specific")]
        cluster_specific: bool,
    },
}

/// The manifests.
pub(crate) async fn manifest(command: &Manifest, at: &ClusterOptions) -> Result<String> {
    let Manifest::Generate { what, cluster_specific } = command;
    let version = if *cluster_specific {
        Some(server_version(&Cluster::connect(at).await?).await?)
    } else {
        None
    };
    what.plan()?.manifests(&Helm::new(at), version.as_deref()).await
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        what: What,
    }

    fn plan(words: &[&str]) -> Result<Plan> {
        let line = Line::try_parse_from(["x"].iter().chain(words)).expect("a command line");
        line.what.plan()
    }

    #[test]
    fn a_plan_is_the_profile_with_what_is_set() {
        let plan = plan(&[
            "--set",
            "profile=demo",
            "--set",
            "meshConfig.enableTracing=false",
            "-r",
            "canary",
        ]);
        let plan = plan.expect("a plan");
        assert_eq!((plan.release.as_str(), plan.profile.as_str()), ("istio-canary", "demo"));
        assert_eq!(
            plan.values["meshConfig"],
            json!({"accessLogFile": "/dev/stdout", "enableTracing": false})
        );
        assert_eq!(plan.values["revision"], "canary");
        let written: Value =
            serde_json::from_str(&fs::read_to_string(plan.file.path()).expect("values")).expect("JSON");
        assert_eq!(written, plan.values);
    }

    #[test]
    fn the_default_revision_is_none() {
        let plan = plan(&["-r", "default"]).expect("a plan");
        assert_eq!((plan.release.as_str(), &plan.values["revision"]), ("istio", &json!("")));
    }

    #[test]
    fn times_are_read() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "m", "5", "x5s", "99999999999999999999h", "1é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
