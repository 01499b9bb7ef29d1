//! `e2e-sample`: the sample application, and clients for it.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e::sample::client::Client;
use e2e::sample::env::Env;

/// Plays the images of the labs; the environment says the rest, as it does for the images.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Image to play
    #[arg(long, env = "SAMPLE_IMAGE", default_value = "nicholasjackson/fake-service:v0.17.0")]
    image: String,
    /// What the image is given as its arguments
    #[arg(last = true)]
    arguments: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends requests and prints what came back as JSON
    #[command(subcommand)]
    Client(Client),
}

fn main() -> ExitCode {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "e2e-sample: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            None => e2e::sample::run(&cli.image, &cli.arguments, &Env::of_process()).await,
            Some(Command::Client(client)) => {
                let report = e2e::sample::client::run(client).await?;
                writeln!(std::io::stdout(), "{report:#}")?;
                Ok(())
            }
        }
    })
}
