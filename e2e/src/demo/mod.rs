//! The demo: a mesh on this machine and a walk through the labs, a line of explanation and a result each.

mod labs;
mod show;
mod stage;

use std::time::Instant;

use anyhow::{Result, bail};
use stage::Stage;

/// How to run the demo.
#[derive(Debug, clap::Parser)]
#[command(name = "e2e-demo", about = "Start a mesh on this machine and walk through the labs")]
pub struct Options {
    /// End after the last lab, with 0 if every lab gave what it should.
    #[arg(long)]
    pub once: bool,
    /// Only labs whose name contains this (what they need is prepared all the same).
    #[arg(long)]
    pub lab: Option<String>,
}

/// One lab.
struct Lab {
    /// Short name, for `--lab`.
    name: &'static str,
    /// Heading.
    title: &'static str,
    /// What a newcomer should know to read the result.
    about: &'static str,
    /// Acts, prints, and says what did not come out as it should.
    run: fn(&mut Stage) -> Result<Findings>,
}

/// What a lab checked.
#[derive(Debug, Default)]
struct Findings {
    passed: usize,
    failed: Vec<String>,
}

impl Findings {
    /// Records and prints a check.
    fn check(&mut self, holds: bool, what: &str) {
        show::check(holds, what);
        if holds {
            self.passed += 1;
        } else {
            self.failed.push(what.to_owned());
        }
    }
}

/// Starts the mesh, walks through the labs, and without `once` stays up until Ctrl-C.
///
/// # Errors
/// When the mesh does not start, or when a lab did not give what it should.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let mut stage = Stage::start()?;
    show::note(&format!("the mesh is up after {:.1} s", start.elapsed().as_secs_f64()));

    let mut rows = Vec::new();
    for (number, lab) in labs::ALL.iter().enumerate() {
        if options
            .lab
            .as_ref()
            .is_some_and(|wanted| !lab.name.contains(wanted.as_str()))
        {
            continue;
        }
        show::heading(number + 1, lab.title, lab.about);
        let outcome = (lab.run)(&mut stage);
        if stage.interrupted() {
            show::note("taking the mesh down");
            bail!("interrupted");
        }
        let line = match &outcome {
            Ok(f) if f.failed.is_empty() => format!("ok, {} checks", f.passed),
            Ok(f) => format!("FAILED: {}", f.failed.join("; ")),
            Err(e) => format!("FAILED: {e:#}"),
        };
        if let Err(e) = &outcome {
            show::check(false, &format!("{e:#}"));
        }
        let good = outcome.is_ok_and(|f| f.failed.is_empty());
        rows.push((lab.name, line, good));
    }

    show::table(&rows);
    let failed = rows.iter().filter(|(_, _, good)| !good).count();
    if failed > 0 {
        show::note(&format!("logs of every process: {}", stage.logs().display()));
        if options.once {
            stage.keep_logs();
        }
    }
    if !options.once {
        stage.invite();
        stage.wait_for_ctrl_c();
        show::note("taking the mesh down");
    }
    if failed > 0 {
        bail!("{failed} of {} labs did not give what they should", rows.len());
    }
    Ok(())
}
