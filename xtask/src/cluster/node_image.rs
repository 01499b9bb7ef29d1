//! The node image: composed once, kept compressed in the cache folder, and given to Docker from there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::debian::{self, Apt};
use super::{files, kubernetes, preload, rootfs};
use crate::image::{self, Config, Image};
use crate::process::{append, command, logged, timed};

/// What Docker calls it.
pub(crate) const NAME: &str = "kindest/node:v1.20.2-debian";
/// The steps' number: another one composes anew.
const RECIPE: u32 = 2;

/// Path of the compressed archive, composed now if the cache does not hold it.
pub(crate) fn archive(cache: &Path) -> Result<PathBuf> {
    let name = format!("node-{}.tar.zst", key());
    let archive = cache.join(&name);
    if archive.is_file() {
        return Ok(archive);
    }
    println!(
        "Composing the image of a node (once; about 8 minutes with nothing in {})",
        cache.display()
    );
    let (work, log) = (cache.join("work"), cache.join("node-image.log"));
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    files::remove(&log)?;
    let outcome = compose(cache, &work, &archive, &log);
    // A failed run's work helps nobody: what is worth keeping is in the cache already.
    files::remove(&work)?;
    outcome?;
    for entry in std::fs::read_dir(cache)?.flatten() {
        let other = entry.file_name();
        let other = other.to_string_lossy();
        if other.starts_with("node-") && other.contains(".tar.zst") && other != name {
            files::remove(&entry.path())?;
        }
    }
    Ok(archive)
}

fn key() -> String {
    let recipe = RECIPE.to_string();
    let mut parts: Vec<&[u8]> = vec![
        recipe.as_bytes(),
        kubernetes::VERSION.as_bytes(),
        rootfs::PACKAGES.as_bytes(),
        preload::PAUSE.as_bytes(),
    ];
    for (path, content, _) in &rootfs::FILES {
        parts.extend([path.as_bytes(), content.as_bytes()]);
    }
    image::key(&parts).get(..12).unwrap_or_default().to_owned()
}

fn compose(cache: &Path, work: &Path, archive: &Path, log: &Path) -> Result<()> {
    debian::install_for_build()?;
    let apt = timed("lists of Debian's packages", || Apt::new(&work.join("apt"), log))?;
    let programs = kubernetes::programs(cache, work, &apt, log)?;
    let tree = work.join("tree");
    files::empty(&tree)?;
    timed("Debian packages of a node", || rootfs::bootstrap(&tree, log))?;
    let archives = timed("images of the control plane", || {
        preload::archives(&tree, &programs, work, &apt, log)
    })?;
    timed("files of a node", || rootfs::furnish(&tree, &programs))?;
    timed("images into the node's store", || {
        preload::load(&tree, &archives, work, log)
    })?;
    files::remove(&work.join("images"))?;
    timed("archive of the node", || pack(&tree, work, archive, log))?;
    println!(
        "  {}: {}",
        archive.display(),
        files::size(std::fs::metadata(archive)?.len())
    );
    Ok(())
}

fn pack(tree: &Path, work: &Path, archive: &Path, log: &Path) -> Result<()> {
    let layer = work.join("node.tar");
    let (from, to) = (tree.display().to_string(), layer.display().to_string());
    logged(
        &mut command("tar", &["--xattrs", "--numeric-owner", "-C", &from, "-cf", &to, "."]),
        log,
    )?;
    files::remove(tree)?;
    let config = Config {
        env: vec!["container=docker".to_owned()],
        entrypoint: vec!["/usr/local/bin/entrypoint".to_owned(), "/sbin/init".to_owned()],
        stop_signal: Some("SIGRTMIN+3".to_owned()),
        ..Config::default()
    };
    let image = Image {
        name: NAME,
        config,
        layers: &[layer],
    };
    let partial = archive.with_extension("partial");
    let mut zstd = Command::new("zstd")
        .args(["-q", "-f", "-3", "-T0", "-o"])
        .arg(&partial)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(append(log)?)
        .spawn()
        .context("cannot start zstd")?;
    let input = zstd.stdin.take().context("zstd takes no input")?;
    let written = image::write_to(&[image], std::io::BufWriter::new(input));
    let status = zstd.wait()?;
    written?;
    if !status.success() {
        bail!("zstd ended with {status}");
    }
    files::replace(&partial, archive)
}
