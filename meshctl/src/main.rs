//! `meshctl`: the command line, with istioctl's words and columns.

mod dump;
mod proxy_config;
mod table;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_control::cli_inject::KubeInject;

/// Look into the mesh.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  What does the proxy on this machine (or in this pod) hold?\n    meshctl proxy-config all\n  \
                  Where does a saved dump send requests for catalog?\n    meshctl pc route -f dump.json | grep catalog"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what a proxy was configured with
    #[command(visible_alias = "pc")]
    ProxyConfig(proxy_config::Options),
    /// Inject the proxy into the Pods of a file
    KubeInject(KubeInject),
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::ProxyConfig(options) => proxy_config::run(&options),
        Command::KubeInject(options) => options.run().map(Option::unwrap_or_default),
        Command::Version => Ok(format!("client version: {}\n", env!("CARGO_PKG_VERSION"))),
    };
    match outcome {
        Ok(text) => {
            // A reader that has seen enough (`| head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "meshctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
