//! `cargo xtask bench`: release builds, then the measurements of the bench programs.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, setup};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// `data` (the default: requests, streams and memory beside Envoy, nginx, haproxy), `propagation` (from a change in
    /// the folder to the last proxy) or `footprint` (memory, start-up, sizes), with its options; `data --help` says them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    what: Vec<String>,
}

/// Measurements that the e2e crate makes, with a mesh around the proxies.
const OF_E2E: [&str; 2] = ["propagation", "footprint"];

/// Installs, builds as users would run it, measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::packages()?;
    let mut what = options.what.clone();
    if what.first().is_none_or(|w| w.starts_with('-')) {
        what.insert(0, "data".to_owned());
    }
    if what.first().is_some_and(|w| OF_E2E.contains(&w.as_str())) {
        build(
            &["mesh-proxy", "mesh-control", "mesh-cni", "e2e"],
            &["mesh-proxy", "mesh-control", "mesh-init", "e2e-sample", "e2e-bench"],
        )?;
        return hand_over("e2e-bench", &what, &[]);
    }
    setup::peers()?;
    let envoy = setup::envoy()?;
    build(
        &["mesh-proxy", "mesh-control", "bench"],
        &["mesh-proxy", "mesh-control", "mesh-bench"],
    )?;
    hand_over("mesh-bench", &what, &[("ENVOY_BIN", envoy.into_os_string())])
}

fn build(packages: &[&str], programs: &[&str]) -> Result<()> {
    println!("Building with --release (link-time optimisation: some minutes the first time)");
    let mut build = vec!["build", "--release"];
    build.extend(packages.iter().flat_map(|p| ["-p", p]));
    build.extend(programs.iter().flat_map(|p| ["--bin", p]));
    cargo::run("the build", &build)
}

fn hand_over(program: &str, args: &[String], variables: &[(&str, std::ffi::OsString)]) -> Result<()> {
    let programs = cargo::target_dir().join("release");
    let status = Command::new(programs.join(program))
        .args(args)
        .env("FERROMESH_BIN_DIR", &programs)
        .envs(variables.iter().cloned())
        .status()
        .context("cannot start the bench program")?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}
