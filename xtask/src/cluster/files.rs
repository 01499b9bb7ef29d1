//! Folders that are whole or absent.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

/// Makes a folder that holds nothing.
pub(crate) fn empty(folder: &Path) -> Result<()> {
    remove(folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Removes a file or a folder with all that is in it; nothing there is right, too.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let outcome = match std::fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    outcome.with_context(|| format!("cannot remove {}", path.display()))
}

/// Puts what is complete into its final place, so that an interrupted run leaves nothing there that looks complete.
pub(crate) fn replace(complete: &Path, place: &Path) -> Result<()> {
    remove(place)?;
    std::fs::rename(complete, place)
        .with_context(|| format!("cannot rename {} to {}", complete.display(), place.display()))
}

/// Waits until no other command works on a folder, and keeps others waiting until what it gives is dropped.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        println!("Waiting for another `cargo xtask cluster` to end");
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(file)
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
