//! `mesh-cni`: the CNI plugin where a container runtime calls it, else the node agent.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_cni::cli::Cli as InitCli;
use mesh_cni::plugin::{self, Environment};
use mesh_cni::{agent, init};

/// Captures pods' traffic from their node. Called by a container runtime (CNI_COMMAND is set), it is the CNI plugin.
#[derive(Debug, Parser)]
#[command(name = "mesh-cni", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep the plugin in place on this node, and mend pods that started without it; settings come from the environment
    Agent,
    /// Write the rules of one network namespace: mesh-init's flags
    Iptables(Box<InitCli>),
}

fn main() -> ExitCode {
    if let Some(environment) = Environment::from_process() {
        return as_plugin(&environment);
    }
    match Cli::parse().command {
        Command::Iptables(cli) => init::main("mesh-cni", &cli),
        Command::Agent => match agent::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "mesh-cni: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn as_plugin(environment: &Environment) -> ExitCode {
    let mut stdin = String::new();
    let read = std::io::stdin().read_to_string(&mut stdin);
    log(&stdin);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Err(error) = read {
        tracing::warn!("standard input: {error}");
    }
    let (text, code) = match plugin::answer(environment, &stdin) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!("{error}");
            (plugin::error_text(&error), ExitCode::FAILURE)
        }
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        // Nobody would know that the pod is set up.
        Err(_) => ExitCode::FAILURE,
    }
}

/// To standard error, which runtimes keep for calls that fail.
fn log(stdin: &str) {
    let conf: Option<plugin::Conf> = serde_json::from_str(stdin).ok();
    let level = conf
        .and_then(|conf| conf.log_level)
        .unwrap_or_else(|| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .init();
}
