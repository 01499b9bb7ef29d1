//! Kubernetes from Debian's source package, which holds the whole upstream tree with its dependencies.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::debian::Apt;
use super::files;
use crate::process::{command, logged, timed};

/// The version that the binaries report, and by which kind chooses how it configures kubeadm.
pub(crate) const VERSION: &str = "v1.20.2";
/// The build's steps: another number builds anew.
const RECIPE: u32 = 1;
/// The programs of a node.
pub(crate) const PROGRAMS: [&str; 7] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubeadm",
    "kubectl",
];
/// Old vendored code that crashes the API server with Go 1.18 and later, and Debian's package of a good version.
const REFLECT2: (&str, &str) = ("github.com/modern-go/reflect2", "golang-github-modern-go-reflect2-dev");

/// Folder of the programs, built now if the cache does not hold them. `work` is for what is dropped afterwards.
pub(crate) fn programs(cache: &Path, work: &Path, apt: &Apt, log: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("kubernetes-{VERSION}-{RECIPE}"));
    if PROGRAMS.iter().all(|p| folder.join(p).is_file()) {
        return Ok(folder);
    }
    let tree = work.join("go/src/k8s.io/kubernetes");
    timed("source of Kubernetes", || unpack(apt, work, &tree, log))?;
    timed(
        &format!(
            "compiling Kubernetes {VERSION} (5 minutes on two idle cores; log: {})",
            log.display()
        ),
        || compile(work, &tree, log),
    )?;
    let partial = folder.with_extension("partial");
    files::empty(&partial)?;
    for program in PROGRAMS {
        let built = tree.join("_output/bin").join(program);
        std::fs::copy(&built, partial.join(program)).with_context(|| format!("make left no {}", built.display()))?;
    }
    files::replace(&partial, &folder)?;
    files::remove(&work.join("go"))?;
    files::remove(&work.join("go-cache"))?;
    Ok(folder)
}

fn unpack(apt: &Apt, work: &Path, tree: &Path, log: &Path) -> Result<()> {
    let tarball = apt.source("kubernetes", log)?;
    files::empty(tree)?;
    logged(
        &mut command(
            "tar",
            &[
                "--strip-components=1",
                "-C",
                &tree.display().to_string(),
                "-xf",
                &tarball.display().to_string(),
            ],
        ),
        log,
    )?;
    let debian = work.join("debian");
    apt.unpack(&[REFLECT2.1], None, &debian, log)?;
    let vendored = tree.join("vendor").join(REFLECT2.0);
    files::remove(&vendored)?;
    let newer = debian.join("usr/share/gocode/src").join(REFLECT2.0);
    logged(
        &mut command(
            "cp",
            &["-a", &newer.display().to_string(), &vendored.display().to_string()],
        ),
        log,
    )
}

fn compile(work: &Path, tree: &Path, log: &Path) -> Result<()> {
    let version = work.join("version");
    std::fs::write(
        &version,
        format!(
            "KUBE_GIT_COMMIT=0000000000000000000000000000000000000000\nKUBE_GIT_TREE_STATE=clean\nKUBE_GIT_VERSION={VERSION}\nKUBE_GIT_MAJOR=1\nKUBE_GIT_MINOR=20\n"
        ),
    )?;
    let what = PROGRAMS.map(|p| format!("cmd/{p}")).join(" ");
    let mut make = command("make", &["all", &format!("WHAT={what}"), "GOLDFLAGS=-s -w"]);
    make.current_dir(tree)
        .env("GOPATH", work.join("go"))
        .env("GOCACHE", work.join("go-cache"))
        // Everything is in the tree: nothing is to be fetched.
        .env("GOPROXY", "off")
        .env("KUBE_GIT_VERSION_FILE", &version)
        .env_remove("GOFLAGS")
        .env_remove("MAKEFLAGS");
    logged(&mut make, log)
}
