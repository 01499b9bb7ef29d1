//! Runs scenarios, and ends with a table.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;

use super::helm::Helm;
use super::kubectl::Kubectl;
use super::{evidence, scenarios};

/// What to run, and where.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only scenarios whose name contains this
    pub filter: Option<String>,
    /// The cluster; without it the one that kubectl finds
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the mesh
    #[arg(long, default_value = "istio-system")]
    pub system: String,
    /// Image of the sample application
    #[arg(long, default_value = concat!("localhost/ferromesh/sample:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// Where logs and dumps of failed scenarios go
    #[arg(long, value_name = "FOLDER", default_value = "target/e2e")]
    pub out: PathBuf,
    /// Scenarios at a time, of those that can share the cluster
    #[arg(long, default_value_t = 2)]
    pub parallel: usize,
    /// Times that each side is restarted under load
    #[arg(long, env = "E2E_RESTARTS", default_value_t = 3)]
    pub restarts: u32,
    /// Requests a second under which restarts are done, of all clients together
    #[arg(long, env = "E2E_RATE", default_value_t = 150)]
    pub rate: u32,
    /// Only the core set: what a run on a small machine has time for
    #[arg(long)]
    pub core: bool,
    /// Leave the namespaces of failed scenarios as they are
    #[arg(long)]
    pub keep: bool,
    /// A program that takes Helm's commands: for scenarios that change the release
    #[arg(long, value_name = "PROGRAM", requires = "charts")]
    pub helm: Option<PathBuf>,
    /// Folder of the charts that the mesh was installed from
    #[arg(long, value_name = "FOLDER")]
    pub charts: Option<PathBuf>,
    /// A Python that has what charts/tools/requirements.txt names
    #[arg(long, value_name = "PROGRAM", requires = "charts")]
    pub python: Option<PathBuf>,
    /// Uninstall the release at the end, whatever the filter, and look at what is left
    #[arg(long, requires = "helm")]
    pub uninstall: bool,
    /// Print the names and what each shows, and end
    #[arg(long)]
    pub list: bool,
}

/// The cluster with the mesh in it.
#[derive(Debug)]
pub struct World {
    /// Without a namespace.
    pub kubectl: Kubectl,
    /// Namespace of the mesh.
    pub system: String,
    /// The sample application.
    pub image: String,
    /// Times that each side is restarted under load.
    pub restarts: u32,
    /// Requests a second of a load, of all clients together.
    pub rate: u32,
    /// For scenarios that change the release.
    pub helm: Option<Helm>,
    /// A Python for the charts' tools, and the folder of the charts.
    pub python: Option<(PathBuf, PathBuf)>,
    /// Whether the release may be uninstalled.
    pub uninstall: bool,
}

/// What a scenario cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing but the mesh.
    Mesh,
    /// Helm, to change the release.
    Helm,
    /// Python, to render the charts over their matrix.
    Python,
    /// A release that nobody needs any more.
    Uninstall,
}

impl World {
    /// Why a scenario with this need is left out.
    fn lacks(&self, need: Need) -> Option<&'static str> {
        let (there, why) = match need {
            Need::Mesh => (true, ""),
            Need::Helm => (self.helm.is_some(), "needs --helm and --charts"),
            Need::Python => (self.python.is_some(), "needs --python and --charts"),
            Need::Uninstall => (
                self.uninstall && self.helm.is_some(),
                "the release stays without --uninstall",
            ),
        };
        (!there).then_some(why)
    }
}

/// What a scenario is.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What it shows, in a line.
    pub(super) shows: &'static str,
    /// Whether it changes what others stand on, and so runs when they are done.
    pub(super) alone: bool,
    pub(super) need: Need,
    pub(super) run: fn(&Turn<'_>) -> Result<()>,
}

/// One run of a scenario.
pub(super) struct Turn<'a> {
    pub(super) world: &'a World,
    pub(super) name: &'static str,
}

impl Turn<'_> {
    /// For scenarios that need it.
    pub(super) fn helm(&self) -> Result<&Helm> {
        self.world
            .helm
            .as_ref()
            .context("no --helm, and this scenario does not say that it needs it")
    }
}

struct Outcome {
    scenario: &'static Scenario,
    took: Duration,
    ended: Ended,
}

enum Ended {
    Passed,
    Skipped(&'static str),
    Failed { error: String, folder: PathBuf },
}

/// Runs the scenarios that are asked for; the table goes to standard output.
///
/// # Errors
/// When one failed, or none has such a name.
pub fn run(options: &Options) -> Result<()> {
    let chosen: Vec<&Scenario> = scenarios::ALL
        .iter()
        .filter(|s| {
            let named = options.filter.as_ref().is_none_or(|f| s.name.contains(f.as_str()));
            let left_out = options.core && scenarios::BEYOND_CORE.contains(&s.name);
            named && !left_out || options.uninstall && s.need == Need::Uninstall
        })
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = scenarios::ALL.iter().map(|s| s.name).collect();
        bail!("no scenario has such a name; there are {}", names.join(", "));
    }
    if options.list {
        for scenario in chosen {
            println!("{:<32} {}", scenario.name, scenario.shows);
        }
        return Ok(());
    }
    let charts = || options.charts.clone().unwrap_or_default();
    let world = World {
        kubectl: Kubectl::new(options.kubeconfig.clone()),
        system: options.system.clone(),
        image: options.image.clone(),
        restarts: options.restarts,
        rate: options.rate,
        helm: options
            .helm
            .clone()
            .map(|program| Helm::new(program, charts(), options.kubeconfig.clone(), &options.system)),
        python: options.python.clone().map(|program| (program, charts())),
        uninstall: options.uninstall,
    };
    let (mut alone, together): (Vec<&Scenario>, Vec<_>) = chosen.into_iter().partition(|s| s.alone);
    alone.sort_by_key(|s| s.need == Need::Uninstall);
    let mut outcomes = side_by_side(&world, options, &together, options.parallel);
    outcomes.extend(side_by_side(&world, options, &alone, 1));
    table(&outcomes, options)
}

fn side_by_side(world: &World, options: &Options, scenarios: &[&'static Scenario], parallel: usize) -> Vec<Outcome> {
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (turns, done) = (&next, &outcomes);
    std::thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, 16).min(scenarios.len()) {
            scope.spawn(move || {
                while let Some(scenario) = scenarios.get(turns.fetch_add(1, Ordering::Relaxed)) {
                    let name = scenario.name;
                    let outcome = one(world, options, scenario);
                    let clears = match &outcome.ended {
                        Ended::Passed => true,
                        Ended::Skipped(_) => false,
                        Ended::Failed { .. } => !options.keep,
                    };
                    if clears {
                        // Pods take their time to end; the next scenario need not wait for it.
                        scope.spawn(move || Turn { world, name }.clear());
                    }
                    done.lock().push(outcome);
                }
            });
        }
    });
    outcomes.into_inner()
}

fn one(world: &World, options: &Options, scenario: &'static Scenario) -> Outcome {
    if let Some(why) = world.lacks(scenario.need) {
        println!("  – {}: skipped, {why}", scenario.name);
        return Outcome {
            scenario,
            took: Duration::ZERO,
            ended: Ended::Skipped(why),
        };
    }
    let (turn, start) = (
        Turn {
            world,
            name: scenario.name,
        },
        Instant::now(),
    );
    let result = (scenario.run)(&turn);
    let took = start.elapsed();
    let ended = match result {
        Ok(()) => Ended::Passed,
        Err(error) => {
            let (folder, error) = (options.out.join(scenario.name), format!("{error:#}"));
            let kept = match evidence::collect(world, scenario.name, &folder, &error) {
                Ok(()) => format!("logs and dumps: {}", folder.display()),
                Err(error) => format!("logs and dumps could not be kept: {error:#}"),
            };
            let error = format!("{error}\n{kept}");
            Ended::Failed { error, folder }
        }
    };
    let (name, seconds) = (scenario.name, took.as_secs_f64());
    match &ended {
        Ended::Failed { error, .. } => println!("  ✘ {name} ({seconds:.0} s)\n{error}"),
        _ => println!("  ✔ {name} ({seconds:.0} s)"),
    }
    Outcome { scenario, took, ended }
}

fn table(outcomes: &[Outcome], options: &Options) -> Result<()> {
    // Whoever reads a log of CI can see nothing else: what explains a failure comes before the table, which stays last.
    if std::env::var_os("CI").is_some() {
        for outcome in outcomes {
            if let Ended::Failed { error, folder } = &outcome.ended {
                println!(
                    "\n── {}\n{error}\n{}",
                    outcome.scenario.name,
                    evidence::short(folder, &options.system)
                );
            }
        }
    }
    println!("\n{:<6} {:>7}  {:<32} SHOWS", "", "SECONDS", "SCENARIO");
    let (mut passed, mut skipped) = (0, 0);
    for outcome in outcomes {
        let (name, shows) = (outcome.scenario.name, outcome.scenario.shows);
        let (word, remark) = match outcome.ended {
            Ended::Passed => ("pass", String::new()),
            Ended::Skipped(why) => ("skip", format!(" ({why})")),
            Ended::Failed { .. } => ("FAIL", String::new()),
        };
        passed += usize::from(word == "pass");
        skipped += usize::from(word == "skip");
        println!(
            "{word:<6} {:>7.1}  {name:<32} {shows}{remark}",
            outcome.took.as_secs_f64()
        );
    }
    let failed = outcomes.len() - passed - skipped;
    let left_out = if skipped > 0 {
        format!(", {skipped} skipped")
    } else {
        String::new()
    };
    println!("\n{passed} of {} passed{left_out}", outcomes.len());
    if failed > 0 {
        bail!("{failed} failed; what explains it is in {}", options.out.display());
    }
    Ok(())
}
