//! `kubectl`, as a user calls it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// A cluster, and the namespace that commands without `-n` mean.
#[derive(Debug, Clone)]
pub struct Kubectl {
    kubeconfig: Option<PathBuf>,
    namespace: Option<String>,
}

impl Kubectl {
    /// The cluster of a kubeconfig; without one, that which `kubectl` finds by itself.
    pub fn new(kubeconfig: Option<PathBuf>) -> Self {
        Kubectl {
            kubeconfig,
            namespace: None,
        }
    }

    /// The same cluster, in a namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Kubectl {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// The file that names the cluster, if one was given.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// A command, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        if let Some(namespace) = &self.namespace {
            command.args(["-n", namespace]);
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    /// What a command prints.
    ///
    /// # Errors
    /// When it fails, with the command and what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        finish(self.command(args), None)
    }

    /// `get … -o json`.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let text = self.run(&[&["get"], what, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {}", what.join(" ")))
    }

    /// `apply -f -`.
    ///
    /// # Errors
    /// As [`Kubectl::run`], with the YAML.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        finish(self.command(&["apply", "-f", "-"]), Some(yaml)).with_context(|| yaml.to_owned())
    }

    /// `exec` in a container of a pod or a workload (`deploy/NAME`).
    ///
    /// # Errors
    /// As [`Kubectl::run`]; a program that ends with another code than 0 is one.
    pub fn exec(&self, target: &str, container: &str, program: &[&str]) -> Result<String> {
        self.run(&[&["exec", target, "-c", container, "--"], program].concat())
    }

    /// `exec` that goes on beside the scenario; [`join`] waits for its end.
    ///
    /// # Errors
    /// When `kubectl` cannot be started.
    pub fn exec_beside(&self, target: &str, container: &str, program: &[&str]) -> Result<Child> {
        self.command(&[&["exec", target, "-c", container, "--"], program].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")
    }
}

/// What a command prints, once it ends.
///
/// # Errors
/// When it fails, with the command and what it said.
pub(super) fn finish(mut command: Command, input: Option<&str>) -> Result<String> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let said = say(&command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {said}"))?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(input.as_bytes()).with_context(|| said.clone())?;
    }
    join(child).context(said)
}

/// What a started program prints, once it ends.
///
/// # Errors
/// When it fails, with what it said.
pub(super) fn join(child: Child) -> Result<String> {
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!("{}: {}\n{}", output.status, text(&output.stderr), text(&output.stdout));
    }
    Ok(text(&output.stdout))
}

fn say(command: &Command) -> String {
    let mut said = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        said.push(' ');
        said.push_str(&arg.to_string_lossy());
    }
    said
}
