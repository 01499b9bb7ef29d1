//! A network namespace of its own: ports are free, and no rule or traffic of the machine is in the figures.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Set in the process that runs inside.
const INSIDE: &str = "FERROMESH_BENCH_INSIDE";

/// Starts this program again in a new network namespace; comes back in the new process only.
///
/// # Errors
/// When the kernel allows no namespace.
pub(crate) fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .context("ip (Debian: iproute2)")?;
        if !up.success() {
            bail!("ip link set lo up ended with {up}");
        }
        return Ok(());
    }
    let mut flags = vec!["--net"];
    if !nix::unistd::geteuid().is_root() {
        flags.extend(["--user", "--map-root-user"]);
    }
    let possible = Command::new("unshare")
        .args(&flags)
        .args(["--", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !possible.is_ok_and(|s| s.success()) {
        bail!(
            "the bench needs a network namespace of its own: run it as root, or allow user namespaces (unshare --user --net)"
        );
    }
    let error = Command::new("unshare")
        .args(&flags)
        .arg("--")
        .arg(std::env::current_exe().context("own path")?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("unshare")
}
