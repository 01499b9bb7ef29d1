//! What a run gives, and its JSON form.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::load::Latency;
use crate::machine::Machine;
use crate::peers::Peer;

/// A whole run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Of each load.
    pub(crate) seconds: u64,
    /// That the run took.
    pub(crate) minutes: f64,
    pub(crate) rows: Vec<Row>,
}

/// One peer under one load of one case.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) title: &'static str,
    pub(crate) load: String,
    pub(crate) peer: Peer,
    /// One for each repetition.
    pub(crate) samples: Vec<Sample>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Sample {
    /// Requests (or what the load counts) in a second.
    pub(crate) per_second: f64,
    /// CPU of all proxies for each of them, user and kernel, in microseconds.
    pub(crate) cpu_us: f64,
    /// Bytes moved in a second of the proxies' CPU; for bulk.
    pub(crate) bytes_per_cpu_second: f64,
    pub(crate) errors: u64,
    pub(crate) latency: Option<Latency>,
    /// Resident bytes of all proxies before any load.
    pub(crate) idle_bytes: u64,
    /// Resident bytes right after this load.
    pub(crate) resident_bytes: u64,
    /// From start until the proxy listens.
    pub(crate) ready_ms: f64,
}

impl Row {
    /// Median over the repetitions.
    pub(crate) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = |at: usize| values.get(at).copied().unwrap_or_default();
        if values.len() % 2 == 1 {
            middle(values.len() / 2)
        } else {
            f64::midpoint(middle(values.len() / 2), middle((values.len() / 2).saturating_sub(1)))
        }
    }

    /// Largest over smallest CPU of the repetitions, less one: how far to trust the figure.
    pub(crate) fn spread(&self) -> f64 {
        let values = self.samples.iter().map(|s| s.cpu_us);
        let (low, high) = values.fold((f64::MAX, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        if low > 0.0 && low < f64::MAX {
            high / low - 1.0
        } else {
            0.0
        }
    }
}

impl Report {
    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }
}
