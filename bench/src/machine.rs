//! What it was measured on.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::measure::Cores;
use crate::peers::Programs;

/// The machine and the programs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) proxy_cores: Vec<usize>,
    pub(crate) load_cores: Vec<usize>,
    pub(crate) memory_mb: u64,
    pub(crate) kernel: String,
    /// Program and what it says of its version.
    pub(crate) versions: Vec<(String, String)>,
    /// Load average when the run began: other work on the machine is in the figures.
    pub(crate) load_average: String,
    /// Day of the run, in UTC.
    pub(crate) date: String,
    /// Commit of the checkout, with `-dirty` when something is not in it.
    pub(crate) commit: String,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look(cores: &Cores, programs: &Programs) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |path: &str, name: &str| {
            let text = read(path);
            let line = text.lines().find(|l| l.starts_with(name));
            line.and_then(|l| l.split_once(':'))
                .map_or_else(|| "unknown".to_owned(), |(_, v)| v.trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let mesh_proxy = programs.mesh_proxy.display().to_string();
        let envoy = programs.envoy.as_ref().map(|p| p.display().to_string());
        let mut versions = vec![(
            "mesh-proxy".to_owned(),
            first_line(&mesh_proxy, "--version", "mesh-proxy"),
        )];
        versions.extend(envoy.map(|e| ("Envoy".to_owned(), first_line(&e, "--version", "version"))));
        for (name, program, flag) in [
            ("nginx", "/usr/sbin/nginx", "-v"),
            ("haproxy", "/usr/sbin/haproxy", "-v"),
            ("wrk", "wrk", "-v"),
            ("h2load", "h2load", "--version"),
        ] {
            versions.push((name.to_owned(), first_line(program, flag, name)));
        }
        Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            proxy_cores: cores.proxy.clone(),
            load_cores: cores.load.clone(),
            memory_mb: memory
                .split_whitespace()
                .next()
                .and_then(|k| k.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions,
            load_average: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .unwrap_or("?")
                .to_owned(),
            date: said("date", &["-u", "+%Y-%m-%d"]),
            commit: said("git", &["describe", "--always", "--dirty"]),
        }
    }

    /// Two lines for a plot.
    pub(crate) fn caption(&self) -> [String; 2] {
        let versions: Vec<&str> = self.versions.iter().map(|(_, v)| v.as_str()).collect();
        [
            format!(
                "{}, {} cores, Linux {}; {}, commit {}",
                self.cpu, self.cores, self.kernel, self.date, self.commit
            ),
            versions.join("; "),
        ]
    }

    /// Lines for the head of a report.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{}, commit {}", self.date, self.commit),
            format!(
                "{} ({} cores), {} MB, Linux {}; load average {} at the start",
                self.cpu, self.cores, self.memory_mb, self.kernel, self.load_average
            ),
            format!(
                "Proxies on core {:?}, load and upstream on {:?}; one worker each.",
                self.proxy_cores, self.load_cores
            ),
        ];
        lines.extend(self.versions.iter().map(|(name, version)| format!("{name}: {version}")));
        lines
    }
}

/// What a program says in one line; nothing if it cannot be asked.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// The first line of what a program says that has a word in it.
fn first_line(program: &str, flag: &str, word: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "not installed".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|l| l.contains(word)).unwrap_or_default();
    // Some begin with the path by which they were called.
    let line = line.trim().trim_start_matches(program).trim_start();
    line.chars().take(100).collect()
}
