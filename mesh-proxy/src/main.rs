//! `mesh-proxy`: see `--help`.

use std::process::ExitCode;

use clap::Parser;
use mesh_proxy::app;
use mesh_proxy::cli::Cli;

fn main() -> ExitCode {
    match app::main(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Before logging is set up there is only this; afterwards it is what an operator looks for first.
            eprintln!("mesh-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
