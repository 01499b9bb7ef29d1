//! The root filesystem of a node: Debian packages, Kubernetes' programs, and files of our own.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context, Result};

use super::{debian, files, kubernetes};
use crate::process::{command, logged};

/// What a node runs, beyond Debian's minimal base.
pub(crate) const PACKAGES: &str = "systemd,systemd-sysv,dbus,containerd,runc,containernetworking-plugins,iptables,nftables,iproute2,conntrack,\
socat,ethtool,mount,kmod,procps,jq,util-linux,ca-certificates,curl,ebtables,busybox-static";

/// Files of our own: path, content, mode.
pub(crate) const FILES: [(&str, &str, u32); 11] = [
    (
        "etc/containerd/config.toml",
        include_str!("node/containerd.toml"),
        0o644,
    ),
    (
        "etc/systemd/system/fake-proc-cgroups-off.service",
        include_str!("node/fake-proc-cgroups-off.service"),
        0o644,
    ),
    (
        "etc/systemd/system/kubelet.service",
        include_str!("node/kubelet.service"),
        0o644,
    ),
    (
        "etc/systemd/system/node-net.service",
        include_str!("node/node-net.service"),
        0o644,
    ),
    (
        "etc/systemd/journald.conf",
        "[Journal]\nReadKMsg=no\nStorage=volatile\n",
        0o644,
    ),
    (
        "kind/manifests/default-cni.yaml",
        include_str!("node/network.yaml"),
        0o644,
    ),
    (
        "kind/manifests/default-storage.yaml",
        include_str!("node/storage.yaml"),
        0o644,
    ),
    ("kind/version", kubernetes::VERSION, 0o644),
    ("usr/local/bin/entrypoint", include_str!("node/entrypoint"), 0o755),
    (
        "usr/local/sbin/kubelet-cgroups",
        include_str!("node/kubelet-cgroups"),
        0o755,
    ),
    ("usr/local/sbin/node-net", include_str!("node/node-net"), 0o755),
];

/// What a container has no use for.
const DROPPED: [&str; 10] = [
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/i18n",
    "etc/hostname",
    "etc/sysctl.d",
];

/// Units that start with these words at boot and would change the machine, not the node.
const NOT_AT_BOOT: [&str; 14] = [
    "systemd-tmpfiles-setup.service",
    "systemd-binfmt",
    "proc-sys-fs-binfmt_misc",
    "systemd-sysctl",
    "systemd-modules-load",
    "systemd-random-seed",
    "systemd-firstboot",
    "systemd-repart",
    "systemd-sysusers",
    "systemd-pcrphase",
    "systemd-update-utmp",
    "systemd-machine-id-commit",
    "sys-",
    "dev-hugepages",
];

/// Units that must never start.
const MASKED: [&str; 6] = [
    "systemd-binfmt.service",
    "systemd-udevd.service",
    "systemd-logind.service",
    "systemd-resolved.service",
    "getty.target",
    "console-getty.service",
];

/// Units that make a node.
const ENABLED: [(&str, &str); 4] = [
    ("/lib/systemd/system/containerd.service", "containerd.service"),
    ("/etc/systemd/system/kubelet.service", "kubelet.service"),
    ("/etc/systemd/system/node-net.service", "node-net.service"),
    (
        "/etc/systemd/system/fake-proc-cgroups-off.service",
        "fake-proc-cgroups-off.service",
    ),
];

/// Plug-ins that the pod network uses, and those that others chain.
const PLUGINS: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "ptp"];

/// Fills an empty folder with Debian's packages.
pub(crate) fn bootstrap(tree: &Path, log: &Path) -> Result<()> {
    logged(
        &mut command(
            "debootstrap",
            &[
                "--variant=minbase",
                &format!("--include={PACKAGES}"),
                debian::RELEASE,
                &tree.display().to_string(),
                &debian::mirror()?,
            ],
        ),
        log,
    )
}

/// Makes a node of it.
pub(crate) fn furnish(tree: &Path, programs: &Path) -> Result<()> {
    for path in DROPPED {
        files::remove(&tree.join(path))?;
    }
    for folder in [
        "var/cache/apt/archives/partial",
        "var/lib/apt/lists/partial",
        "var/log",
        "etc/sysctl.d",
        "etc/kubernetes/manifests",
        "etc/cni/net.d",
        "var/lib/kubelet",
        "lib/modules",
        "opt/cni/bin",
        "kind/manifests",
    ] {
        std::fs::create_dir_all(tree.join(folder)).with_context(|| folder.to_owned())?;
    }
    std::fs::write(tree.join("etc/resolv.conf"), "")?;
    units(tree)?;
    for (path, content, mode) in FILES {
        write(&tree.join(path), content.as_bytes(), mode)?;
    }
    for program in ["kubelet", "kubeadm", "kubectl"] {
        copy(&programs.join(program), &tree.join("usr/bin").join(program))?;
    }
    for plugin in PLUGINS {
        // In a folder of its own: a DaemonSet that mounts this path must find files and no link to elsewhere.
        copy(
            &tree.join("usr/lib/cni").join(plugin),
            &tree.join("opt/cni/bin").join(plugin),
        )?;
    }
    files::remove(&tree.join("usr/lib/cni"))
}

fn units(tree: &Path) -> Result<()> {
    let own = tree.join("etc/systemd/system");
    for entry in std::fs::read_dir(&own)?.flatten() {
        if entry.file_name().to_string_lossy().ends_with(".wants") {
            files::remove(&entry.path())?;
        }
    }
    let system = tree.join("lib/systemd/system");
    for target in ["multi-user", "local-fs", "timers"] {
        files::empty(&system.join(format!("{target}.target.wants")))?;
    }
    files::remove(&system.join("sockets.target.wants/systemd-initctl.socket"))?;
    for entry in std::fs::read_dir(system.join("sysinit.target.wants"))?.flatten() {
        let name = entry.file_name();
        if NOT_AT_BOOT.iter().any(|unit| name.to_string_lossy().starts_with(unit)) {
            files::remove(&entry.path())?;
        }
    }
    for unit in MASKED {
        link("/dev/null", &own.join(unit))?;
    }
    link("/lib/systemd/system/multi-user.target", &own.join("default.target"))?;
    let wants = own.join("multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    for (unit, name) in ENABLED {
        link(unit, &wants.join(name))?;
    }
    Ok(())
}

fn link(to: &str, at: &Path) -> Result<()> {
    files::remove(at)?;
    symlink(to, at).with_context(|| at.display().to_string())
}

/// Writes a file with its folder and permission bits.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, content).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
