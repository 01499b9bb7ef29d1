//! `cargo xtask bench`: release builds, then the measurements of the bench program.

use anyhow::{Context, Result, bail};

use crate::{cargo, setup};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// `propagation` (from a change in the folder to the last proxy) or `footprint` (memory, start-up, sizes), and its options.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    what: Vec<String>,
}

/// Installs, builds as users would run it, measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::packages()?;
    println!("Building with --release (link-time optimisation: some minutes the first time)");
    let mut build = vec![
        "build",
        "--release",
        "-p",
        "mesh-proxy",
        "-p",
        "mesh-control",
        "-p",
        "mesh-cni",
        "-p",
        "e2e",
    ];
    for program in ["mesh-proxy", "mesh-control", "mesh-init", "e2e-sample", "e2e-bench"] {
        build.extend(["--bin", program]);
    }
    cargo::run("the build", &build)?;
    let programs = cargo::target_dir().join("release");
    let status = std::process::Command::new(programs.join("e2e-bench"))
        .args(&options.what)
        .env("FERROMESH_BIN_DIR", &programs)
        .status()
        .context("cannot start the bench program")?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}
