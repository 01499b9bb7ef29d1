//! Container images written without a container engine: a layer from files, a configuration, and one archive that
//! `docker load`, `ctr images import` and `kind load image-archive` take.
//!
//! The archive is an OCI image layout that holds Docker's `manifest.json` as well, so that tools of either kind read it.
//! Equal input gives equal bytes: entries are sorted, belong to root, and have no time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

mod iptables;
mod layer;

pub(crate) use iptables::iptables;
pub(crate) use layer::Layer;
use layer::header;

/// `PATH` of an image that names no other.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container of the image is started with.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// `NAME=value`; `PATH` is added if it is not among them.
    pub(crate) env: Vec<String>,
    /// Program and first arguments.
    pub(crate) entrypoint: Vec<String>,
    /// `UID[:GID]`; root if empty.
    pub(crate) user: String,
    /// Signal that asks it to end, as `SIGRTMIN+3`; SIGTERM if none.
    pub(crate) stop_signal: Option<String>,
}

/// One image of an archive.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    /// `NAME:TAG`; without a registry it is Docker Hub's, as everywhere.
    pub(crate) name: &'a str,
    /// How it is started.
    pub(crate) config: Config,
    /// Finished layers (uncompressed tars), lowest first. Images of one archive may share them.
    pub(crate) layers: &'a [PathBuf],
}

/// Writes an archive of images; gives its size in bytes.
///
/// # Errors
/// When a layer cannot be read, or the archive not be written.
pub(crate) fn write(images: &[Image<'_>], out: &Path) -> Result<u64> {
    let file = File::create(out).with_context(|| out.display().to_string())?;
    write_to(images, BufWriter::new(file)).with_context(|| out.display().to_string())?;
    Ok(std::fs::metadata(out)?.len())
}

/// [`write`] into anything that takes bytes, such as the input of a compressor.
///
/// # Errors
/// As for [`write`].
pub(crate) fn write_to(images: &[Image<'_>], out: impl Write) -> Result<()> {
    let mut archive = Archive::default();
    for image in images {
        archive.add(image).with_context(|| format!("image {}", image.name))?;
    }
    archive.write(out)
}

/// What goes into an archive, each blob once.
#[derive(Default)]
struct Archive {
    manifests: Vec<serde_json::Value>,
    docker: Vec<serde_json::Value>,
    documents: BTreeMap<String, Vec<u8>>,
    layers: BTreeMap<PathBuf, Hashed>,
}

impl Archive {
    fn add(&mut self, image: &Image<'_>) -> Result<()> {
        for path in image.layers {
            if !self.layers.contains_key(path) {
                self.layers.insert(path.clone(), hashed(path)?);
            }
        }
        let layers: Vec<_> = image.layers.iter().filter_map(|path| self.layers.get(path)).collect();
        let describe = |kind: &str, digest: &str, size: u64| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": size});
        let config = configuration(&image.config, &layers);
        let config_digest = digest(&config);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("config.v1+json", &config_digest, config.len() as u64),
            "layers": layers.iter().map(|l| describe("layer.v1.tar", &l.digest, l.size)).collect::<Vec<_>>(),
        }))?;
        let manifest_digest = digest(&manifest);
        let mut listed = describe("manifest.v1+json", &manifest_digest, manifest.len() as u64);
        listed["platform"] = json!({"architecture": architecture(), "os": "linux"});
        listed["annotations"] = json!({
            "io.containerd.image.name": full_name(image.name),
            "org.opencontainers.image.ref.name": image.name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
        });
        self.docker.push(json!({
            "Config": blob(&config_digest),
            "RepoTags": [image.name],
            "Layers": layers.iter().map(|l| blob(&l.digest)).collect::<Vec<_>>(),
        }));
        self.manifests.push(listed);
        self.documents
            .extend([(manifest_digest, manifest), (config_digest, config)]);
        Ok(())
    }

    fn write(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        let mut add = |path: &str, content: &[u8]| {
            let mut header = header(tar::EntryType::Regular, 0o644, content.len() as u64);
            tar.append_data(&mut header, path, content)
        };
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        add("index.json", &serde_json::to_vec(&index)?)?;
        add("manifest.json", &serde_json::to_vec(&self.docker)?)?;
        for (digest, document) in &self.documents {
            add(&blob(digest), document)?;
        }
        let mut written = BTreeSet::new();
        for (path, layer) in &self.layers {
            if written.insert(&layer.digest) {
                let mut header = header(tar::EntryType::Regular, 0o644, layer.size);
                tar.append_data(&mut header, blob(&layer.digest), BufReader::new(File::open(path)?))?;
            }
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

/// The name with its registry, as containerd keeps it.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        Some((registry, _)) if registry.contains(['.', ':']) || registry == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// A layer with what the manifest says of it.
struct Hashed {
    digest: String,
    size: u64,
}

fn hashed(path: &Path) -> Result<Hashed> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let (mut hash, mut buffer, mut size) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        size += read as u64;
    }
    Ok(Hashed {
        digest: hex(&hash.finalize()),
        size,
    })
}

fn configuration(config: &Config, layers: &[&Hashed]) -> Vec<u8> {
    let mut env = config.env.clone();
    if !env.iter().any(|e| e.starts_with("PATH=")) {
        env.insert(0, PATH.to_owned());
    }
    let mut start = json!({"Env": env, "WorkingDir": "/"});
    if !config.entrypoint.is_empty() {
        start["Entrypoint"] = json!(config.entrypoint);
    }
    if !config.user.is_empty() {
        start["User"] = json!(config.user);
    }
    if let Some(signal) = &config.stop_signal {
        start["StopSignal"] = json!(signal);
    }
    let epoch = "1970-01-01T00:00:00Z";
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": epoch,
        "config": start,
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| format!("sha256:{}", l.digest)).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created": epoch})).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes()
}

/// This machine's, in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn digest(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of some texts, for keys of caches.
pub(crate) fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
#[path = "image/tests.rs"]
mod tests;
