//! What a set of processes uses: CPU with the kernel's part, and resident memory; and where they run.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// CPU time of all threads of these processes and of their children, user and kernel, from the scheduler's account.
///
/// `/proc/PID/stat` counts ticks of 10 ms; `schedstat` counts nanoseconds.
pub(crate) fn cpu(processes: &[u32]) -> Duration {
    let nanoseconds: u64 = family(processes)
        .into_iter()
        .flat_map(|pid| entries(&format!("/proc/{pid}/task")).map(move |tid| (pid, tid)))
        .filter_map(|(pid, tid)| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum();
    Duration::from_nanos(nanoseconds)
}

/// Resident bytes of these processes and of their children (`Rss` of smaps_rollup).
pub(crate) fn resident(processes: &[u32]) -> u64 {
    family(processes)
        .into_iter()
        .filter_map(|pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let rss = text.lines().find(|l| l.starts_with("Rss:"))?;
            rss.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum::<u64>()
        * 1024
}

/// The processes and all that descend from them.
fn family(processes: &[u32]) -> Vec<u32> {
    let mut all = processes.to_vec();
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        for tid in entries(&format!("/proc/{pid}/task")) {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

fn entries(folder: &str) -> impl Iterator<Item = u32> + use<> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
}

/// Which cores do what.
#[derive(Debug, Clone)]
pub(crate) struct Cores {
    /// The proxies under test; one core, also for a pair.
    pub(crate) proxy: Vec<usize>,
    /// Load and upstream.
    pub(crate) load: Vec<usize>,
}

impl Cores {
    /// The first core for the proxy, the next (and a third, if there is one) for load and upstream.
    pub(crate) fn of_machine() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
        let cores: Vec<usize> = (0..CpuSet::count())
            .filter(|c| allowed.is_set(*c).unwrap_or(false))
            .collect();
        match cores.as_slice() {
            [] => anyhow::bail!("no core is allowed to this process"),
            [only] => Ok(Self {
                proxy: vec![*only],
                load: vec![*only],
            }),
            [first, rest @ ..] => Ok(Self {
                proxy: vec![*first],
                load: rest.iter().take(2).copied().collect(),
            }),
        }
    }
}

/// Pins the calling thread, and what it starts from now on.
pub(crate) fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("sched_setaffinity to {cores:?}"))
}
