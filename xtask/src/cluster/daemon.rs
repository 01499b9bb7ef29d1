//! A Docker daemon of our own, with its own data, socket and network namespace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::state::{Mode, State};
use super::{files, network, node_image, rootfs};
use crate::process::{append, command, logged, output, succeeds, tail};

/// The OCI runtime that asks for no more than this machine gives.
const RUNTIME: &str = include_str!("node/runc-filter");
/// Time for the daemon to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts it, if it does not answer already.
pub(crate) fn start(state: &State) -> Result<()> {
    if answers(state) {
        return Ok(());
    }
    network::make()?;
    let runtime = state.folder.join("runc-filter");
    rootfs::write(&runtime, RUNTIME.as_bytes(), 0o755)?;
    let config = state.folder.join("daemon.json");
    std::fs::write(&config, "{}\n")?;
    let log = state.folder.join("dockerd.log");
    // A pid file that a restart of the machine left behind.
    files::remove(&state.pid_file())?;
    let mut daemon = Command::new("setsid")
        .arg("nsenter")
        .arg(format!("--net={}", network::path().display()))
        .arg("dockerd")
        .arg("--data-root")
        .arg(state.folder.join("docker"))
        .arg("--exec-root")
        .arg(state.run.join("exec"))
        .arg("--host")
        .arg(format!("unix://{}", state.socket().display()))
        .arg("--pidfile")
        .arg(state.pid_file())
        .arg("--add-runtime")
        .arg(format!("filtered={}", runtime.display()))
        .args(["--default-runtime", "filtered"])
        .args(["--default-address-pool", &format!("base={},size=24", network::NODES)])
        // Not the file of the machine's own daemon.
        .arg("--config-file")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(append(&log)?)
        .stderr(append(&log)?)
        .spawn()
        .context("cannot start dockerd")?;
    let start = Instant::now();
    while !answers(state) {
        if let Some(status) = daemon.try_wait()? {
            bail!(
                "dockerd ended with {status}\n{}\nall of it: {}",
                tail(&log),
                log.display()
            );
        }
        if start.elapsed() > PATIENCE {
            bail!("dockerd does not answer\n{}\nall of it: {}", tail(&log), log.display());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    network::admit()
}

/// Whether it answers.
pub(crate) fn answers(state: &State) -> bool {
    state.socket().exists() && succeeds(&mut state.docker(Mode::Own, &["version"]))
}

/// Gives it the node image, if it has not got it; an image of an older recipe under the same name is replaced.
pub(crate) fn load(state: &State, archive: &Path) -> Result<()> {
    let marker = state.folder.join("node-image");
    let wanted = archive.display().to_string();
    let has = std::fs::read_to_string(&marker).is_ok_and(|m| m == wanted);
    if has && succeeds(&mut state.docker(Mode::Own, &["image", "inspect", node_image::NAME])) {
        return Ok(());
    }
    let mut zstd = Command::new("zstd")
        .args(["-q", "-d", "-c"])
        .arg(archive)
        .stdout(Stdio::piped())
        .stderr(append(&state.log())?)
        .spawn()
        .context("cannot start zstd")?;
    let archive = zstd.stdout.take().context("zstd gives no output")?;
    let loaded = logged(
        state.docker(Mode::Own, &["load"]).stdin(Stdio::from(archive)),
        &state.log(),
    );
    let status = zstd.wait()?;
    loaded?;
    if !status.success() {
        bail!("the node image in the cache cannot be unpacked (zstd: {status}); remove it: {wanted}");
    }
    std::fs::write(&marker, wanted)?;
    Ok(())
}

/// Tries to get out of the machine from a container.
pub(crate) fn probe(state: &State) -> Result<()> {
    network::closed()?;
    let mut run = state.docker(
        Mode::Own,
        &[
            "run",
            "--rm",
            "--entrypoint",
            "/bin/bash",
            node_image::NAME,
            "-c",
            &network::probe(),
        ],
    );
    network::judge(&output(&mut run)?)
}

/// Its process, if it runs.
pub(crate) fn pid(state: &State) -> Option<u32> {
    let pid = std::fs::read_to_string(state.pid_file()).ok()?.trim().parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "dockerd" && runs(pid)).then_some(pid)
}

/// Whether a process has not ended. One that we have started ourselves stays in the kernel's table when it has.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may hold anything.
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !state.is_empty() && !state.starts_with('Z')
}

/// Ends it and everything below it, and unmounts what it mounted.
pub(crate) fn stop(state: &State) -> Result<()> {
    if answers(state) {
        let containers = output(&mut state.docker(Mode::Own, &["ps", "-aq"]))?;
        for container in containers.lines() {
            logged(&mut state.docker(Mode::Own, &["rm", "-fv", container]), &state.log())?;
        }
    }
    if let Some(pid) = pid(state) {
        end(pid)?;
    }
    unmount(&[&state.folder, &state.run])?;
    cgroups();
    Ok(())
}

fn end(pid: u32) -> Result<()> {
    let (text, start) = (pid.to_string(), Instant::now());
    let _ = succeeds(&mut command("kill", &[&text]));
    while runs(pid) {
        if start.elapsed() > PATIENCE {
            let _ = succeeds(&mut command("kill", &["-KILL", &text]));
        }
        if start.elapsed() > 2 * PATIENCE {
            bail!("dockerd (process {pid}) does not end");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Unmounts everything below these folders, the innermost first.
fn unmount(folders: &[&Path]) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut below: Vec<_> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|at| folders.iter().any(|f| Path::new(at).starts_with(f)))
        .collect();
    below.reverse();
    for at in below {
        output(&mut command("umount", &["--lazy", at]))?;
    }
    Ok(())
}

/// Docker leaves its own cgroup in every hierarchy; an empty one can be removed.
fn cgroups() {
    let root = Path::new("/sys/fs/cgroup");
    let _ = std::fs::remove_dir(root.join("docker"));
    for hierarchy in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join("docker"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_nobody_has_waited_for_does_not_run_any_more() {
        assert!(runs(std::process::id()));
        let mut child = command("true", &[]).spawn().expect("starts");
        let end = Instant::now() + PATIENCE;
        while runs(child.id()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!runs(child.id()));
        child.wait().expect("ended");
    }
}
