//! `cargo xtask cluster`: a kind cluster for tests, on a machine that may have neither Docker nor an image registry.

mod daemon;
mod debian;
mod dns;
mod files;
mod kind;
mod kubernetes;
mod lifecycle;
mod network;
mod node_image;
mod preload;
mod rootfs;
mod state;
mod users;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::setup;

pub(crate) use files::size;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make a cluster and wait until it is Ready. One that is up stays as it is.
    ///
    /// Where Docker runs and kind's usual node image is there or can be pulled, that is used. Elsewhere a private Docker
    /// daemon is started in a network namespace without a way out, and the node is made from Debian's packages.
    Up {
        /// Nodes beside the control plane [default: 0, or those of the cluster that is up]
        #[arg(long)]
        workers: Option<u32>,
    },
    /// Take down the cluster and everything that was started, mounted or set for it; the cache folder stays.
    Down,
    /// Say what is up, where, and what the cache folder holds.
    Status,
    /// Compose the image of a node and keep it in the cache folder (8 minutes the first time, then nothing).
    NodeImage,
}

/// Does it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !setup::is_root() {
        bail!("a cluster needs root: it installs Debian packages, mounts, and makes network namespaces");
    }
    let cache = cache();
    let _alone = files::lock(&cache)?;
    match options.action {
        Action::Up { workers } => lifecycle::up(&cache, workers),
        Action::Down => lifecycle::down(&cache),
        Action::Status => lifecycle::status(&cache),
        Action::NodeImage => {
            debian::install()?;
            let archive = node_image::archive(&cache)?;
            println!("{}: {}", archive.display(), size(std::fs::metadata(&archive)?.len()));
            Ok(())
        }
    }
}

/// Makes the cluster if none is up, and says whether it did.
pub(crate) fn ensure(workers: Option<u32>) -> Result<bool> {
    let there = state::State::new().mode().is_some();
    run(&Options {
        action: Action::Up { workers },
    })?;
    Ok(!there)
}

/// Takes the cluster down.
pub(crate) fn remove() -> Result<()> {
    run(&Options { action: Action::Down })
}

/// Of the cluster that is up.
pub(crate) fn kubeconfig() -> PathBuf {
    state::State::new().kubeconfig()
}

/// Loads archives of images into the nodes of the cluster that is up.
pub(crate) fn load(archives: &[PathBuf]) -> Result<()> {
    lifecycle::load(&cache(), archives)
}

fn cache() -> PathBuf {
    setup::cache_dir().join("cluster")
}
