//! Runs scenarios, and ends with a table.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use parking_lot::Mutex;

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
    /// Leave the namespaces of failed scenarios as they are
    #[arg(long)]
    pub keep: bool,
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
}

/// What a scenario is.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What it shows, in a line.
    pub(super) shows: &'static str,
    /// Whether it changes what others stand on, and so runs when they are done.
    pub(super) alone: bool,
    pub(super) run: fn(&Turn<'_>) -> Result<()>,
}

/// One run of a scenario.
pub(super) struct Turn<'a> {
    pub(super) world: &'a World,
    pub(super) name: &'static str,
}

struct Outcome {
    scenario: &'static Scenario,
    took: Duration,
    error: Option<String>,
}

/// Runs the scenarios that are asked for; the table goes to standard output.
///
/// # Errors
/// When one failed, or none has such a name.
pub fn run(options: &Options) -> Result<()> {
    let chosen: Vec<&Scenario> = scenarios::ALL
        .iter()
        .filter(|s| options.filter.as_ref().is_none_or(|f| s.name.contains(f.as_str())))
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
    let world = World {
        kubectl: Kubectl::new(options.kubeconfig.clone()),
        system: options.system.clone(),
        image: options.image.clone(),
    };
    let (alone, together): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|s| s.alone);
    let mut outcomes = side_by_side(&world, options, &together, options.parallel);
    outcomes.extend(side_by_side(&world, options, &alone, 1));
    table(&outcomes, options)
}

fn side_by_side(world: &World, options: &Options, scenarios: &[&'static Scenario], parallel: usize) -> Vec<Outcome> {
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, 16).min(scenarios.len()) {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = one(world, options, scenario);
                    outcomes.lock().push(outcome);
                }
            });
        }
    });
    outcomes.into_inner()
}

fn one(world: &World, options: &Options, scenario: &'static Scenario) -> Outcome {
    let (turn, start) = (
        Turn {
            world,
            name: scenario.name,
        },
        Instant::now(),
    );
    let result = (scenario.run)(&turn);
    let took = start.elapsed();
    let error = result.err().map(|error| {
        let folder = options.out.join(scenario.name);
        let text = format!("{error:#}");
        let kept = match evidence::collect(world, scenario.name, &folder, &text) {
            Ok(()) => format!("logs and dumps: {}", folder.display()),
            Err(error) => format!("logs and dumps could not be kept: {error:#}"),
        };
        format!("{text}\n{kept}")
    });
    if error.is_none() || !options.keep {
        turn.clear();
    }
    match &error {
        None => println!("  ✔ {} ({:.0} s)", scenario.name, took.as_secs_f64()),
        Some(error) => println!("  ✘ {} ({:.0} s)\n{error}", scenario.name, took.as_secs_f64()),
    }
    Outcome { scenario, took, error }
}

fn table(outcomes: &[Outcome], options: &Options) -> Result<()> {
    println!("\n{:<6} {:>7}  {:<32} SHOWS", "", "SECONDS", "SCENARIO");
    for outcome in outcomes {
        let word = if outcome.error.is_none() { "pass" } else { "FAIL" };
        let (name, shows) = (outcome.scenario.name, outcome.scenario.shows);
        println!("{word:<6} {:>7.1}  {name:<32} {shows}", outcome.took.as_secs_f64());
    }
    let failed = outcomes.iter().filter(|o| o.error.is_some()).count();
    println!("\n{} of {} passed", outcomes.len() - failed, outcomes.len());
    if failed > 0 {
        bail!("{failed} failed; what explains it is in {}", options.out.display());
    }
    Ok(())
}
