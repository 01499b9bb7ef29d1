//! `helm`, as whoever looks after the mesh calls it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::kubectl::finish;

/// Release of the mesh that the scenarios run in.
pub(super) const RELEASE: &str = "istio";
/// For pods of the size of ours, on machines that are busy.
const TIMEOUT: &str = "300s";

/// A Helm, and the charts that it installs.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    charts: PathBuf,
    kubeconfig: Option<PathBuf>,
    namespace: String,
}

impl Helm {
    /// A program that takes Helm's commands, for releases in a namespace.
    pub fn new(program: PathBuf, charts: PathBuf, kubeconfig: Option<PathBuf>, namespace: &str) -> Self {
        Helm {
            program,
            charts,
            kubeconfig,
            namespace: namespace.to_owned(),
        }
    }

    /// A file in the folder of the charts.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.charts.join(path)
    }

    /// The values that whoever installed a release gave.
    pub(super) fn values(&self, release: &str) -> Result<Value> {
        let said = self.run(&["get", "values", release, "-o", "json"])?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// `install` of the mesh's chart with these files of values, the last in force.
    pub(super) fn install(&self, release: &str, files: &[&Path]) -> Result<()> {
        self.apply("install", release, files)
    }

    /// `upgrade` to these values and no others.
    pub(super) fn upgrade(&self, values: &[&Value]) -> Result<()> {
        let files = values.iter().map(|v| values_file(v)).collect::<Result<Vec<_>>>()?;
        let paths: Vec<&Path> = files.iter().map(NamedTempFile::path).collect();
        self.apply("upgrade", RELEASE, &paths)
    }

    /// The release with more values while something is done, and with its own again whatever comes of that.
    pub(super) fn while_changed(&self, more: &Value, what: impl FnOnce() -> Result<()>) -> Result<()> {
        let own = self.values(RELEASE)?;
        let done = self.upgrade(&[&own, more]).and_then(|()| what());
        let back = self
            .upgrade(&[&own])
            .context("the release does not have its own values again");
        match (done, back) {
            (Err(done), Err(back)) => Err(done.context(format!("{back:#}"))),
            (done, back) => done.and(back),
        }
    }

    /// `uninstall`.
    pub(super) fn uninstall(&self, release: &str) -> Result<()> {
        self.run(&["uninstall", release, "--wait", "--timeout", TIMEOUT])
            .map(drop)
    }

    fn apply(&self, verb: &str, release: &str, files: &[&Path]) -> Result<()> {
        let mut command = self.command(&[verb, release]);
        command.arg(self.file("mesh")).args(["--wait", "--timeout", TIMEOUT]);
        if verb == "upgrade" {
            command.arg("--reset-values");
        }
        for file in files {
            command.arg("-f").arg(file);
        }
        finish(command, None).map(drop)
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        finish(self.command(args), None)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).args(["-n", &self.namespace]).stdin(Stdio::null());
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        command
    }
}

/// A file of values; JSON is YAML.
pub(super) fn values_file(values: &Value) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new().context("a file of values")?;
    file.write_all(values.to_string().as_bytes())
        .context("a file of values")?;
    Ok(file)
}
