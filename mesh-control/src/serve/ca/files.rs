//! Small files with secrets in them, and PEM.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Only the owner reads keys.
pub(in crate::serve) const SECRET: u32 = 0o600;
/// Certificates are public.
pub(super) const PUBLIC: u32 = 0o644;

pub(in crate::serve) fn make_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(|| format!("cannot make the folder {}", dir.display()))
}

/// The file's text, or `None` when there is no such file.
pub(in crate::serve) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file whole or not at all. Two processes that start together must agree on one key: the first wins, and the
/// other gets its text back.
pub(super) fn create_once(path: &Path, text: &str, mode: u32) -> Result<String> {
    let temporary = write_beside(path, text, mode)?;
    let linked = fs::hard_link(&temporary, path);
    let removed = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {
            removed.with_context(|| format!("cannot remove {}", temporary.display()))?;
            Ok(text.to_owned())
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            read(path)?.with_context(|| format!("{} came and went", path.display()))
        }
        Err(e) => Err(e).with_context(|| format!("cannot write {}", path.display())),
    }
}

/// Replaces a file whole.
pub(in crate::serve) fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    let temporary = write_beside(path, text, mode)?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

fn write_beside(path: &Path, text: &str, mode: u32) -> Result<std::path::PathBuf> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let name = name.with_context(|| format!("{} names no file", path.display()))?;
    let temporary = path.with_file_name(format!(".{name}.{}.{:08x}", std::process::id(), rand::random::<u32>()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .with_context(|| format!("cannot write in the folder of {}", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", temporary.display()))?;
    Ok(temporary)
}

/// All certificates of a PEM text, in order. `what` names the file in errors.
pub(super) fn certificates(text: &str, what: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| anyhow::anyhow!("{}: {e}", what.display()))
}

/// One certificate as PEM, with a newline at its end.
pub(super) fn pem(der: &CertificateDer<'_>) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    // Base64 is ASCII, so every cut is at a character's edge.
    for start in (0..encoded.len()).step_by(64) {
        out.push_str(&encoded[start..encoded.len().min(start + 64)]);
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
