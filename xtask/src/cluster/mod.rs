//! `cargo xtask cluster`: a kind cluster for tests, on a machine that may have neither Docker nor an image registry.

mod debian;
mod files;
mod kubernetes;
mod node_image;
mod preload;
mod rootfs;

use anyhow::{Result, bail};

use crate::setup;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Compose the image of a node and keep it in the cache folder (8 minutes the first time, then nothing).
    NodeImage,
}

/// Does it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !setup::is_root() {
        bail!("a cluster needs root: it installs Debian packages, mounts, and makes network namespaces");
    }
    match options.action {
        Action::NodeImage => {
            debian::install()?;
            let archive = node_image::archive(&setup::cache_dir().join("cluster"))?;
            println!(
                "{}: {}",
                archive.display(),
                files::size(std::fs::metadata(&archive)?.len())
            );
        }
    }
    Ok(())
}
