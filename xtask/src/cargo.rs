//! Running cargo, with its own progress bar left visible.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Root of the checkout.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// A cargo command in the checkout.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Variables that `cargo run` set for us describe xtask, not what is built next.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|n| n.starts_with("CARGO_PKG_") || n == "CARGO_MANIFEST_DIR")
        {
            command.env_remove(name);
        }
    }
    // What lets the next build be short makes this one longer, and a fresh clone of CI has no next.
    if std::env::var_os("CI").is_some() && std::env::var_os("CARGO_INCREMENTAL").is_none() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    command.args(args).current_dir(root());
    command
}

/// Runs cargo; `what` says it in the error.
pub(crate) fn run(what: &str, args: &[&str]) -> Result<()> {
    let status = command(args)
        .status()
        .with_context(|| format!("cannot start cargo for {what}"))?;
    if !status.success() {
        bail!("{what} failed: cargo {} ended with {status}", args.join(" "));
    }
    Ok(())
}

/// Triple of this machine. Named in a release build, so that its flags concern the programs and not the build's own tools.
fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Everything linked in, and the table of relocations packed: both are pages that each proxy would have read at its start.
const RELEASE_FLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";

/// A build of programs as users get them: optimised, small in memory, and fit for any base image.
pub(crate) fn release(args: &[&str]) -> Command {
    let triple = triple();
    let mut command = command(&["build", "--release", "--target", &triple]);
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_"));
    command.args(args).env(flags, RELEASE_FLAGS);
    command
}

/// Where [`release`] puts the programs.
pub(crate) fn release_dir() -> PathBuf {
    target_dir().join(triple()).join("release")
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Folder of the programs that a plain `cargo build` makes.
pub(crate) fn bin_dir() -> PathBuf {
    target_dir().join("debug")
}
