//! `e2e-run`: a mesh on this machine from folders or files of Kubernetes YAML.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use e2e::interrupt::Interrupt;
use e2e::netns::rootless;
use e2e::runner::{Injection, Mesh, Options};

/// Runs a mesh without Kubernetes.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a mesh and keeps it up until Ctrl-C
    Up(Up),
}

#[derive(Debug, clap::Args)]
struct Up {
    /// Folders or files of YAML
    #[arg(long = "dir", short = 'f', num_args = 1.., value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// Inject sidecars into that namespace
    #[arg(long)]
    inject: bool,
    /// File with a MeshConfig
    #[arg(long)]
    mesh_config: Option<PathBuf>,
    /// How long pods may take to get ready
    #[arg(long, default_value = "60s", value_parser = e2e::sample::client::parse_duration)]
    timeout: Duration,
    /// Shell command to run when everything is ready, with the gateway's address in $GATEWAY; the mesh ends with it
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

fn main() -> ExitCode {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    let Cli {
        command: Command::Up(up),
    } = Cli::parse();
    match rootless::enter_if_needed().and_then(|()| run(&up)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("e2e-run: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn run(up: &Up) -> Result<u8> {
    // Asked for first: from here on Ctrl-C ends the mesh in order.
    let interrupted = e2e::interrupt::listen()?;
    let mesh_config = up
        .mesh_config
        .as_ref()
        .map(std::fs::read_to_string)
        .transpose()
        .context("--mesh-config")?;
    let mesh = Mesh::start(Options {
        namespace: up.namespace.clone(),
        mesh_config,
        ..Options::default()
    })?;
    if up.inject {
        mesh.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n  labels: {{istio-injection: enabled}}\n",
            up.namespace
        ))?;
    }
    for file in files(&up.paths)? {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        match mesh.apply(&text) {
            Ok(done) => done
                .iter()
                .for_each(|(key, change)| say(&format!("{key} {}", format!("{change:?}").to_lowercase()))),
            Err(error) => say(&format!("{}: {error:#}", file.display())),
        }
    }
    let ready = wait_ready(&mesh, up.timeout, &interrupted);
    if let Some(command) = &up.exec {
        ready?;
        let gateway = mesh.gateway().map(|address| address.to_string()).unwrap_or_default();
        let status = std::process::Command::new("sh")
            .args(["-c", command])
            .env("GATEWAY", gateway)
            .status()?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    }
    if let Err(error) = ready {
        say(&format!("not everything is ready: {error:#}"));
    }
    say(&format!(
        "{:<12} {:<40} {:<16} {:<6} PROXY",
        "NAMESPACE", "POD", "ADDRESS", "READY"
    ));
    for pod in mesh.pods() {
        let proxy = match pod.injection {
            Injection::None => "-",
            Injection::Sidecar => "sidecar",
            Injection::Gateway => "gateway",
        };
        say(&format!(
            "{:<12} {:<40} {:<16} {:<6} {proxy}",
            pod.namespace,
            pod.name,
            pod.ip.to_string(),
            pod.ready
        ));
    }
    if let Ok(gateway) = mesh.gateway() {
        let prefix = rootless::command_prefix()
            .map(|prefix| prefix + " ")
            .unwrap_or_default();
        say(&format!("gateway: {prefix}curl http://{gateway}/"));
    }
    say(&format!("YAML (edit and watch): {}", mesh.config_folder().display()));
    say(&format!("logs:                  {}", mesh.logs().display()));
    if let Some(pod) = mesh.pods().first() {
        say(&format!("inside a pod:          ip netns exec {} bash", pod.space.name));
    }
    say("Ctrl-C ends the mesh and removes it.");
    interrupted.wait();
    say("ending");
    Ok(0)
}

/// Waits in short steps, so that Ctrl-C need not wait for all of it.
fn wait_ready(mesh: &Mesh, limit: Duration, interrupted: &Interrupt) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let ready = mesh.wait_ready(Duration::from_millis(200));
        if ready.is_ok() || interrupted.has_come() || Instant::now() > deadline {
            return ready;
        }
    }
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for path in paths {
        if !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
        let mut inside: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|p| is_yaml(p))
            .collect();
        inside.sort();
        out.extend(inside);
    }
    Ok(out)
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}
