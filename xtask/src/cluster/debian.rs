//! What Debian's archive gives: packages installed, packages only unpacked, sources, and packages of a newer release.
//!
//! The mirror is the one that the machine's own apt uses. Lists of releases that the machine does not follow are kept in
//! a folder of our own, so that its apt configuration stays as it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::rootfs;
use crate::process::{command, logged, output};
use crate::setup;

/// Release whose packages make a node, and whose source package holds Kubernetes.
pub(crate) const RELEASE: &str = "bookworm";
/// Release that has kind.
const NEWER: &str = "trixie";

/// Program that shows that a package is there, and the package.
const INSTALLED: [(&str, &str); 9] = [
    ("dockerd", "docker.io"),
    ("containerd", "containerd"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("jq", "jq"),
    ("zstd", "zstd"),
    ("kubectl", "kubernetes-client"),
    ("debootstrap", "debootstrap"),
];

/// The same for the build of Kubernetes.
const FOR_BUILD: [(&str, &str); 5] = [
    ("go", "golang-go"),
    ("make", "make"),
    ("rsync", "rsync"),
    ("cc", "gcc"),
    ("ldd", "libc-bin"),
];

/// Installs what running and composing nodes needs, where it is missing.
pub(crate) fn install() -> Result<()> {
    let missing = setup::missing(&INSTALLED);
    // Docker's package would start a daemon for the whole machine, where only ours is wanted.
    let policy = (!missing.is_empty()).then(NoStart::new).transpose()?;
    let installed = setup::install(&missing);
    drop(policy);
    installed
}

/// While it lives, packages that are installed do not start their services. A rule of the machine's own stays as it is.
struct NoStart {
    made: bool,
}

impl NoStart {
    const POLICY: &'static str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<NoStart> {
        let made = !Path::new(Self::POLICY).exists();
        if made {
            rootfs::write(Path::new(Self::POLICY), b"#!/bin/sh\nexit 101\n", 0o755)?;
        }
        Ok(NoStart { made })
    }
}

impl Drop for NoStart {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_file(Self::POLICY);
        }
    }
}

/// Installs what compiling Kubernetes needs, where it is missing.
pub(crate) fn install_for_build() -> Result<()> {
    setup::install(&setup::missing(&FOR_BUILD))
}

/// Address of the archive that this machine's apt uses, with a slash at its end.
///
/// # Errors
/// When apt follows no archive of Debian.
pub(crate) fn mirror() -> Result<String> {
    let targets = output(&mut command(
        "apt-get",
        &[
            "indextargets",
            "--format",
            "$(REPO_URI) $(LABEL) $(COMPONENT)",
            "Created-By: Packages",
        ],
    ))?;
    archive(&targets).with_context(|| {
        format!("apt on this machine follows no archive of Debian (`apt-get indextargets` says: {targets})")
    })
}

fn archive(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let uri = words.next()?;
        (words.next() == Some("Debian") && words.next() == Some("main"))
            .then(|| format!("{}/", uri.trim_end_matches('/')))
    })
}

/// Lists and packages of releases that the machine may not follow.
pub(crate) struct Apt {
    folder: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// Makes the folder and fetches the lists. Needs the network.
    pub(crate) fn new(folder: &Path, log: &Path) -> Result<Apt> {
        for sub in ["lists/partial", "cache/archives/partial", "parts"] {
            std::fs::create_dir_all(folder.join(sub)).with_context(|| folder.display().to_string())?;
        }
        let mirror = mirror()?;
        let sources = folder.join("sources.list");
        let signed = ["/usr/share/keyrings/debian-archive-keyring.gpg"]
            .into_iter()
            .find(|k| Path::new(k).is_file())
            .map_or_else(String::new, |k| format!("[signed-by={k}] "));
        std::fs::write(
            &sources,
            format!(
                "deb {signed}{mirror} {RELEASE} main\ndeb-src {signed}{mirror} {RELEASE} main\ndeb {signed}{mirror} {NEWER} main\n"
            ),
        )?;
        let apt = Apt {
            options: [
                format!("Dir::Etc::SourceList={}", sources.display()),
                format!("Dir::Etc::SourceParts={}", folder.join("parts").display()),
                format!("Dir::State::Lists={}", folder.join("lists").display()),
                format!("Dir::Cache={}", folder.join("cache").display()),
                // The download runs as root: the folder may lie where user _apt cannot look.
                "APT::Sandbox::User=root".to_owned(),
                "Acquire::Languages=none".to_owned(),
            ]
            .into_iter()
            .flat_map(|o| ["-o".to_owned(), o])
            .collect(),
            folder: folder.to_owned(),
        };
        logged(apt.get(&["-qq", "update"]).current_dir(folder), log)?;
        Ok(apt)
    }

    fn get(&self, args: &[&str]) -> std::process::Command {
        let mut get = command("apt-get", &[]);
        get.args(&self.options).args(args);
        get
    }

    /// Fetches packages and unpacks them into one folder, without installing them.
    pub(crate) fn unpack(&self, packages: &[&str], release: Option<&str>, into: &Path, log: &Path) -> Result<()> {
        let debs = self.folder.join("debs");
        let _ = std::fs::remove_dir_all(&debs);
        std::fs::create_dir_all(&debs)?;
        let release = release.unwrap_or(RELEASE);
        let names: Vec<_> = packages.iter().map(|p| format!("{p}/{release}")).collect();
        let mut args = vec!["-qq", "download"];
        args.extend(names.iter().map(String::as_str));
        logged(self.get(&args).current_dir(&debs), log)?;
        std::fs::create_dir_all(into)?;
        let mut found = 0;
        for deb in std::fs::read_dir(&debs)?.flatten() {
            let deb = deb.path().display().to_string();
            logged(
                &mut command("dpkg-deb", &["-x", &deb, &into.display().to_string()]),
                log,
            )?;
            found += 1;
        }
        if found != packages.len() {
            bail!(
                "apt fetched {found} of {} packages: {}",
                packages.len(),
                packages.join(" ")
            );
        }
        Ok(())
    }

    /// kind, which only the newer release has.
    pub(crate) fn unpack_kind(&self, into: &Path, log: &Path) -> Result<()> {
        self.unpack(&["kind"], Some(NEWER), into, log)
    }

    /// Fetches a source package and gives the path of its upstream tarball.
    pub(crate) fn source(&self, package: &str, log: &Path) -> Result<PathBuf> {
        let folder = self.folder.join("source");
        std::fs::create_dir_all(&folder)?;
        let name = format!("{package}/{RELEASE}");
        logged(
            self.get(&["-qq", "source", "--download-only", &name])
                .current_dir(&folder),
            log,
        )?;
        std::fs::read_dir(&folder)?
            .flatten()
            .map(|e| e.path())
            .find(|p| p.to_string_lossy().contains(".orig.tar."))
            .with_context(|| format!("the source package {package} holds no upstream tarball"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_the_one_of_debian_itself() {
        let targets = "http://mirror/debian-security/ Debian-Security main\nhttps://else/ Other main\nhttp://mirror/debian Debian main";
        assert_eq!(archive(targets).as_deref(), Some("http://mirror/debian/"));
        assert_eq!(archive("https://else/ Other main"), None);
    }
}
