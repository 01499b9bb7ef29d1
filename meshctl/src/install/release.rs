//! Helm's releases, as Helm keeps them: a Secret for each revision.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::control::Revision;

/// Charts of ours.
const CHARTS: [&str; 6] = ["mesh", "base", "control", "gateway", "cni", "addons"];
/// Nobody's manifests are longer; a Secret holds at most 1 MiB of them in compressed form.
const LONGEST: u64 = 64 << 20;

/// What is of interest in a release.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Release {
    /// Name.
    pub(crate) name: String,
    /// Namespace.
    #[serde(default)]
    pub(crate) namespace: String,
    /// What was installed, as YAML.
    #[serde(default)]
    pub(crate) manifest: String,
    /// Values that were given.
    #[serde(default)]
    pub(crate) config: serde_json::Value,
    chart: Chart,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Chart {
    metadata: Metadata,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    version: String,
}

impl Release {
    /// `mesh-0.1.0`.
    fn chart(&self) -> String {
        format!("{}-{}", self.chart.metadata.name, self.chart.metadata.version)
    }

    /// Whether there is one in it.
    pub(crate) fn has_control_plane(&self) -> bool {
        ["mesh", "control"].contains(&self.chart.metadata.name.as_str())
    }

    /// The revision of its control plane; empty for the default one.
    pub(crate) fn revision(&self) -> &str {
        self.config["revision"].as_str().unwrap_or_default()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} ({})", self.name, self.namespace, self.chart())
    }
}

/// The newest state of each release of our charts in the control plane's namespace, of one revision if one is asked for.
pub(crate) async fn all(cluster: &Cluster, revision: &Revision) -> Result<Vec<Release>> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.root);
    let all = of_secrets(&secrets).await;
    let mut all = all.with_context(|| format!("Helm's Secrets in namespace {}", cluster.root))?;
    all.retain(|release| revision.name().is_none_or(|name| release.revision() == name));
    Ok(all)
}

/// As [`all`], in all namespaces.
pub(crate) async fn everywhere(cluster: &Cluster) -> Result<Vec<Release>> {
    let secrets: Api<Secret> = Api::all(cluster.client.clone());
    of_secrets(&secrets).await.context("Helm's Secrets in all namespaces")
}

async fn of_secrets(secrets: &Api<Secret>) -> Result<Vec<Release>> {
    let list = ListParams::default().labels("owner=helm");
    let mut newest: BTreeMap<(String, String), (u64, Secret)> = BTreeMap::new();
    for secret in secrets.list(&list).await? {
        let labels = secret.metadata.labels.clone().unwrap_or_default();
        let version = labels.get("version").and_then(|v| v.parse().ok()).unwrap_or(0);
        if let Some(name) = labels.get("name") {
            let key = (secret.metadata.namespace.clone().unwrap_or_default(), name.clone());
            if newest.get(&key).is_none_or(|(known, _)| *known < version) {
                newest.insert(key, (version, secret));
            }
        }
    }
    let mut out = Vec::new();
    for ((_, name), (_, secret)) in newest {
        let data = secret.data.unwrap_or_default();
        let coded = data.get("release").map(|bytes| bytes.0.as_slice()).unwrap_or_default();
        let release = decode(coded).with_context(|| format!("release {name}"))?;
        if CHARTS.contains(&release.chart.metadata.name.as_str()) {
            out.push(release);
        }
    }
    Ok(out)
}

/// Base64 of gzip of JSON.
fn decode(coded: &[u8]) -> Result<Release> {
    let bytes = STANDARD
        .decode(coded)
        .context("it is not written as Helm writes releases")?;
    let mut json = Vec::new();
    GzDecoder::new(bytes.as_slice())
        .take(LONGEST)
        .read_to_end(&mut json)
        .context("it is not written as Helm writes releases")?;
    serde_json::from_slice(&json).context("it is not written as Helm writes releases")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn releases_are_read() {
        let json = serde_json::json!({"name": "istio", "namespace": "mesh", "manifest": "---\nkind: A\n", "config": {"revision": "x"},
            "chart": {"metadata": {"name": "mesh", "version": "0.1.0"}, "templates": []}, "version": 3});
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(json.to_string().as_bytes()).expect("written");
        let coded = STANDARD.encode(gzip.finish().expect("gzip"));
        let release = decode(coded.as_bytes()).expect("a release");
        assert_eq!((release.name.as_str(), release.revision()), ("istio", "x"));
        assert_eq!(release.to_string(), "istio.mesh (mesh-0.1.0)");
        for bad in ["", "!", "aGVsbG8="] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
