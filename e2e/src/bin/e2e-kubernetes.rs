//! `e2e-kubernetes`: the scenarios on a cluster in which the mesh is installed.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use e2e::kube::{Options, run};

/// Runs the scenarios on Kubernetes, each in namespaces of its own, and ends with a table.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(&Cli::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "e2e-kubernetes: {error:#}");
            ExitCode::FAILURE
        }
    }
}
