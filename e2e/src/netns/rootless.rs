//! Without root: the whole program moves into a user namespace of its own, in which it is root.
//!
//! There it has the rights over its own network and mounts, and nothing else. Only one user exists in it, so that the
//! proxy cannot be told by its uid; it marks its packets instead. When the last process ends, the kernel removes
//! everything, so there is nothing to clean up either.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};

/// Packet mark of the proxy where its uid cannot tell it.
pub const MARK: u32 = 77;

const UNSHARE: &[&str] = &["--user", "--map-root-user", "--net", "--mount"];
/// Set for the program inside, so that it knows that mounts are its own and the machine's /run is not touched.
const INSIDE: &str = "FERROMESH_USER_NAMESPACE";

/// Whether processes cannot be given another user here.
pub fn one_user_only() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !maps(&map, mesh_api::names::PROXY_UID)
}

/// Whether a map (lines of first uid inside, first uid outside, count) has a user.
fn maps(map: &str, uid: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|n| n.parse::<u64>().ok());
        let (first, count) = (numbers.next(), numbers.nth(1));
        first
            .zip(count)
            .is_some_and(|(first, count)| (first..first.saturating_add(count)).contains(&u64::from(uid)))
    })
}

/// To be called first of all by programs that run a mesh. As root it does nothing; otherwise it starts the program anew
/// in a user namespace and does not come back.
///
/// # Errors
/// When the kernel does not let users have user namespaces; the text says what to do.
pub fn enter_if_needed() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return prepare();
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let probe = Command::new("unshare")
        .args(UNSHARE)
        .args(["--", "true"])
        .stdin(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(output) => bail!(
            "a mesh needs root (sudo), or a kernel that lets users have user namespaces: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => bail!("a mesh needs root (sudo), or the program unshare (Debian: util-linux): {error}"),
    }
    let own = std::env::current_exe().context("own path")?;
    let mut command = Command::new("unshare");
    command
        .args(UNSHARE)
        .arg("--")
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1");
    Err(command.exec()).context("unshare")
}

/// Gives the namespace its own /run and /etc/netns, which the machine's root owns outside.
fn prepare() -> Result<()> {
    tmpfs("/run")?;
    std::fs::create_dir_all("/run/netns").context("/run/netns")?;
    if !Path::new("/etc/netns").is_dir() {
        // A layer over /etc in which we may make the folder.
        for part in ["upper", "work"] {
            std::fs::create_dir_all(format!("/run/etc/{part}"))?;
        }
        let layers = "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work";
        mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers))
            .context("a layer over /etc (or, as root: mkdir /etc/netns)")?;
        std::fs::create_dir("/etc/netns").context("/etc/netns")?;
    }
    tmpfs("/etc/netns")?;
    super::command::ip("link set lo up")?;
    Ok(())
}

fn tmpfs(path: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=755"))
        .with_context(|| format!("a file system of its own for {path}"))
}

/// What to put before a command so that it sees the mesh; `None` where every program of the machine sees it.
pub fn command_prefix() -> Option<String> {
    std::env::var_os(INSIDE)?;
    Some(format!(
        "nsenter --preserve-credentials -U -n -m -t {}",
        std::process::id()
    ))
}

#[cfg(test)]
mod tests {
    use super::maps;

    #[test]
    fn maps_of_users_are_read() {
        assert!(maps("         0          0 4294967295\n", 1337));
        assert!(!maps("         0       1001          1\n", 1337));
        assert!(maps("0 1001 1\n1 100000 65536\n", 1337));
        assert!(!maps("", 1337));
    }
}
