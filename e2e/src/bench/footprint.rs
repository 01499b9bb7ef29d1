//! Memory, start-up, sizes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{line, mesh};
use crate::runner::{Call, Mesh};

const IDLE: Duration = Duration::from_secs(10);
const STARTS: usize = 10;

pub(super) fn run() -> Result<()> {
    let mesh = mesh(2)?;
    std::thread::sleep(IDLE);
    line(&format!("{:<44} {:>10} {:>10}", "PROCESS", "RSS KiB", "PEAK KiB"));
    let print = |name: &str, pid: u32| -> Result<()> {
        line(&format!(
            "{name:<44} {:>10} {:>10}",
            memory(pid, "VmRSS")?,
            memory(pid, "VmHWM")?
        ));
        Ok(())
    };
    for pod in mesh.pods() {
        if let Some(pid) = pod.proxy_pid {
            print(&format!("mesh-proxy of {}", pod.name), pid)?;
        }
    }
    print("mesh-control", mesh.control_pid())?;

    let mut starts = (0..STARTS).map(|_| start(&mesh)).collect::<Result<Vec<_>>>()?;
    starts.sort();
    line("");
    line(&format!(
        "sidecar, start to ready: median {:.0} ms, slowest {:.0} ms of {STARTS}",
        starts[STARTS / 2].as_secs_f64() * 1e3,
        starts[STARTS - 1].as_secs_f64() * 1e3
    ));

    line("");
    line(&format!("{:<44} {:>10}", "PROGRAM", "MiB"));
    let folder = std::env::var_os("FERROMESH_BIN_DIR")
        .map(PathBuf::from)
        .or_else(own_folder)
        .context("no folder")?;
    for name in ["mesh-proxy", "mesh-control", "mesh-init"] {
        let size = std::fs::metadata(folder.join(name))
            .with_context(|| name.to_owned())?
            .len();
        line(&format!("{name:<44} {:>10.1}", size as f64 / f64::from(1 << 20)));
    }
    Ok(())
}

fn own_folder() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}

/// A line of `/proc/PID/status`, KiB.
fn memory(pid: u32, what: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let value = status
        .lines()
        .find(|l| l.starts_with(what))
        .and_then(|l| l.split_whitespace().nth(1));
    Ok(value.with_context(|| format!("no {what}"))?.parse()?)
}

/// Ends a sidecar as a crash would, starts it again, and waits for its readiness.
fn start(mesh: &Mesh) -> Result<Duration> {
    let ready = SocketAddr::from((Ipv4Addr::LOCALHOST, mesh_api::names::port::READINESS));
    let start = Instant::now();
    mesh.restart_proxy("echo")?;
    while start.elapsed() < Duration::from_secs(30) {
        let mut call = Call::get(ready, "/healthz/ready");
        call.timeout = Duration::from_secs(1);
        if mesh.http_from("echo", call).is_ok_and(|a| a.status == 200) {
            return Ok(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("the proxy was not ready within 30 s: {}", mesh.logs().display())
}
