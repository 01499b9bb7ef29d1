//! Named steps, one after the other, with their times and a table at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What ran, and how it ended.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, std::result::Result<(), String>, Duration)>,
}

impl Steps {
    /// Runs a step. A failure is kept for the table, and the next step runs all the same: one run shows all there is.
    pub(crate) fn run(&mut self, name: &'static str, what: &str, step: impl FnOnce() -> Result<()>) {
        println!("\n── {name}: {what}");
        let start = Instant::now();
        let outcome = step().map_err(|e| format!("{e:#}"));
        if let Err(e) = &outcome {
            println!("   {e}");
        }
        self.done.push((name, outcome, start.elapsed()));
    }

    /// Prints the table.
    ///
    /// # Errors
    /// When a step failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\n{:<12} {:<8} {:>8}", "STEP", "RESULT", "TIME");
        for (name, outcome, time) in &self.done {
            let result = if outcome.is_ok() { "ok" } else { "FAILED" };
            println!("{name:<12} {result:<8} {:>7.1}s", time.as_secs_f64());
        }
        let failed: Vec<_> = self
            .done
            .iter()
            .filter_map(|(n, o, _)| o.as_ref().err().map(|e| (*n, e)))
            .collect();
        if failed.is_empty() {
            println!("\nAll {} steps passed.", self.done.len());
            return Ok(());
        }
        for (name, error) in &failed {
            println!("\n{name}: {error}");
        }
        bail!("{} of {} steps failed", failed.len(), self.done.len())
    }
}
