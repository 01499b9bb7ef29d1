//! `mesh-init`: the init container that captures a pod's traffic.

use std::process::ExitCode;

use clap::Parser as _;
use mesh_cni::cli::Cli;

fn main() -> ExitCode {
    mesh_cni::init::main("mesh-init", &Cli::parse())
}
