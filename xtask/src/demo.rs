//! `cargo xtask demo`: prepare, build, hand over to the demo program.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context, Result};

use crate::{cargo, setup};

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// End after the last lab, with 0 if every lab gave what it should.
    #[arg(long)]
    once: bool,
    /// Only labs whose name contains this.
    #[arg(long)]
    lab: Option<String>,
}

/// Installs or names what is missing, builds, runs.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("[1/3] What this machine needs");
    setup::packages()?;
    println!("[2/3] Building (the first time takes some minutes; cargo shows how far it is)");
    cargo::run("the build", &["build", "--workspace", "--bins"])?;
    println!("[3/3] Starting the mesh");
    let mut demo = std::process::Command::new(cargo::bin_dir().join("e2e-demo"));
    if options.once {
        demo.arg("--once");
    }
    if let Some(lab) = &options.lab {
        demo.args(["--lab", lab]);
    }
    // In our place, so that Ctrl-C and the prompt wait for its end.
    Err(demo.exec()).context("cannot start the demo program")
}
