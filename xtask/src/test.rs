//! `cargo xtask test`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::Steps;
use crate::{cargo, helm, setup};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this (lints and generated files are then left out).
    filter: Option<String>,
}

/// Runs everything, or the tests that a filter names.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut steps = Steps::default();
    let mut envoy = None;
    steps.run("setup", "Debian packages and a real Envoy", || {
        setup::packages()?;
        envoy = Some(setup::envoy()?);
        Ok(())
    });
    if options.filter.is_none() {
        steps.run("format", "cargo fmt --check", format);
        steps.run("clippy", "all targets, warnings denied", clippy);
        steps.run("deny", "licences, sources and bans of dependencies", deny);
        steps.run(
            "charts",
            "linted, and rendered over a matrix of values and versions",
            helm::check,
        );
    }
    steps.run("build", "programs and tests; the first time takes some minutes", || {
        cargo::run("the build", &["build", "--workspace", "--all-targets"])
    });
    steps.run("test", "units, golden files, loopback, network namespaces", || {
        let mut test = cargo::command(&["test", "--workspace", "--no-fail-fast"]);
        test.args(&options.filter);
        if let Some(envoy) = &envoy {
            test.env("ENVOY_BIN", envoy);
        }
        test.env("FERROMESH_BIN_DIR", cargo::bin_dir());
        let status = test.status().context("cannot start cargo")?;
        if !status.success() {
            bail!("some tests failed; their names and output are above");
        }
        Ok(())
    });
    steps.finish()
}

/// `cargo xtask lint`.
pub(crate) fn lint() -> Result<()> {
    let mut steps = Steps::default();
    steps.run("format", "cargo fmt --check", format);
    steps.run("clippy", "all targets, warnings denied", clippy);
    steps.run("deny", "licences, sources and bans of dependencies", deny);
    steps.finish()
}

fn format() -> Result<()> {
    cargo::run("the format check", &["fmt", "--all", "--check"]).context("mend it with: cargo fmt --all")
}

fn clippy() -> Result<()> {
    cargo::run(
        "clippy",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    )
}

fn deny() -> Result<()> {
    let program = setup::cargo_deny()?;
    let status = Command::new(program)
        .args(["--log-level", "error", "check", "bans", "licenses", "sources"])
        .current_dir(cargo::root())
        .status()
        .context("cannot start cargo-deny")?;
    if !status.success() {
        bail!("cargo-deny found something above; deny.toml holds the rules");
    }
    Ok(())
}
