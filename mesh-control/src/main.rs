//! The `mesh-control` program.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match mesh_control::cli::run(mesh_control::cli::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mesh-control: {error:#}");
            ExitCode::from(2)
        }
    }
}
