//! Waits until what was applied is in force in every proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Injection, Mesh};

/// Files by path, with the SHA-256 of what they hold.
type Files = BTreeMap<String, String>;

impl Mesh {
    /// Waits until the control plane has read its folder as it is now, and every proxy has taken what follows from it.
    /// After that one request, or one look, is enough to see the effect.
    ///
    /// What a proxy does after it has taken a change is not waited for: looking up the names of a DNS cluster, and opening
    /// a port of a new listener. Pods that are not ready count too, so [`Mesh::wait_ready`] comes first.
    ///
    /// # Errors
    /// When it takes longer; the error says who is behind.
    pub fn wait_in_force(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while let Err(behind) = self.in_force() {
            if Instant::now() > deadline {
                bail!("after {limit:?}: {behind:#}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn in_force(&self) -> Result<()> {
        let read = self.page("/debug/sourcez")?;
        let known: Files = serde_json::from_value(read["files"].clone()).context("/debug/sourcez")?;
        let there = files(&self.config_folder())?;
        if let Some(name) = differing(&known, &there) {
            bail!("the control plane has not read {name} as it is now");
        }
        let wanted = read["snapshot"].as_u64().context("/debug/sourcez: no snapshot")?;

        let mut taken: BTreeMap<String, u64> = BTreeMap::new();
        for proxy in self.page("/debug/syncz")?.as_array().into_iter().flatten() {
            let name = proxy["proxy"].as_str().unwrap_or_default().to_owned();
            let snapshot = proxy["snapshot_taken"].as_u64().unwrap_or_default();
            // A proxy that was started again may stand there twice for a moment.
            let least = taken.entry(name).or_insert(snapshot);
            *least = snapshot.min(*least);
        }
        for pod in self.pods().iter().filter(|pod| pod.injection != Injection::None) {
            let name = format!("{}.{}", pod.name, pod.namespace);
            match taken.get(&name) {
                Some(snapshot) if *snapshot >= wanted => {}
                Some(snapshot) => bail!("{name} holds snapshot {snapshot}, not {wanted} yet"),
                None => bail!("{name} is not connected to the control plane"),
            }
        }
        Ok(())
    }

    fn page(&self, path: &str) -> Result<Value> {
        let answer = self.control_http(path)?;
        if answer.status != 200 {
            bail!("{path}: {}", answer.status);
        }
        answer.json().with_context(|| path.to_owned())
    }
}

/// The files that the control plane reads.
fn files(folder: &Path) -> Result<Files> {
    let mut found = Files::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
            let hash = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
            found.insert(path.display().to_string(), hash);
        }
    }
    Ok(found)
}

/// A file that only one of them has, or has otherwise.
fn differing<'a>(a: &'a Files, b: &'a Files) -> Option<&'a str> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut names = names.into_iter();
    names.find(|name| a.get(*name) != b.get(*name)).map(String::as_str)
}
