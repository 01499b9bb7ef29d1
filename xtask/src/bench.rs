//! `cargo xtask bench`: release builds, then the measurements of the bench programs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, setup};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// `data` (the default: requests, streams and memory beside Envoy, nginx, haproxy), `control` (compiling, changes and
    /// memory with thousands of services and simulated proxies), `instructions [--against REV]`, `propagation` (from a
    /// change in the folder to the last proxy) or `footprint` (memory, start-up, sizes), with its options; `data --help`
    /// says them.
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
    let against = base(&mut what)?;
    build(
        &["mesh-proxy", "mesh-control", "bench"],
        &["mesh-proxy", "mesh-control", "mesh-bench"],
    )?;
    what.extend(against.map(|program| format!("--against={}", program.display())));
    hand_over("mesh-bench", &what, &[("ENVOY_BIN", envoy.into_os_string())])
}

/// Takes `--against REV` out of the arguments of `instructions`, builds mesh-proxy of that commit, and says where it is.
fn base(what: &mut Vec<String>) -> Result<Option<PathBuf>> {
    let Some(at) = what
        .iter()
        .position(|w| w == "--against" || w.starts_with("--against="))
    else {
        return Ok(None);
    };
    let flag = what.remove(at);
    let revision = match flag.strip_prefix("--against=") {
        Some(revision) => revision.to_owned(),
        None if at < what.len() => what.remove(at),
        None => bail!("--against wants a commit, such as HEAD~1 or main"),
    };
    let hash = git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")])?;
    let folder = cargo::target_dir().join("bench");
    let program = folder.join(format!("mesh-proxy-{}", hash.get(..12).unwrap_or(&hash)));
    if program.is_file() {
        return Ok(Some(program));
    }
    println!("Building mesh-proxy of {revision} ({hash})");
    let tree = folder.join("tree");
    let path = tree.display().to_string();
    // A tree that an interrupted run left behind.
    let _ = git(&["worktree", "remove", "--force", &path]);
    git(&["worktree", "add", "--force", "--detach", &path, &hash])?;
    // The same target folder: dependencies that both have are built once.
    let built = cargo::release(&["-p", "mesh-proxy", "--bin", "mesh-proxy"])
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", cargo::target_dir())
        .status()
        .context("cannot start cargo");
    let _ = git(&["worktree", "remove", "--force", &path]);
    if !built?.success() {
        bail!("mesh-proxy of {revision} does not build");
    }
    std::fs::copy(cargo::release_dir().join("mesh-proxy"), &program).with_context(|| program.display().to_string())?;
    Ok(Some(program))
}

fn git(args: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(args)
        .current_dir(cargo::root())
        .output()
        .context("cannot start git")?;
    if !output.status.success() {
        bail!(
            "git {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn build(packages: &[&str], programs: &[&str]) -> Result<()> {
    println!("Building with --release (link-time optimisation: some minutes the first time)");
    let of_packages = packages.iter().flat_map(|p| ["-p", p]);
    let of_programs = programs.iter().flat_map(|p| ["--bin", p]);
    let args: Vec<_> = of_packages.chain(of_programs).collect();
    let status = cargo::release(&args).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the build failed: cargo ended with {status}");
    }
    Ok(())
}

fn hand_over(program: &str, args: &[String], variables: &[(&str, std::ffi::OsString)]) -> Result<()> {
    let programs = cargo::release_dir();
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
