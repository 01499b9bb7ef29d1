//! The `mesh-control` program.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// First pushes to many proxies take and free megabytes each, which this allocator gives back.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match mesh_control::cli::run(mesh_control::cli::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mesh-control: {error:#}");
            ExitCode::from(2)
        }
    }
}
