//! The chart in this program, and its profiles.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

/// Path in the chart, and text.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/chart.rs"));

const PROFILES: &str = "files/profiles/";

/// The chart as a folder, for as long as this lives.
pub(crate) enum Chart {
    /// That of this program.
    Own(TempDir),
    /// Somebody else's.
    Given(PathBuf),
}

impl Chart {
    /// Writes the chart of this program into a folder of its own, or takes the one that is given.
    pub(crate) fn unpack(given: Option<&Path>) -> Result<Chart> {
        if let Some(folder) = given {
            if !folder.join("Chart.yaml").is_file() {
                bail!("--manifests {}: there is no Chart.yaml in it", folder.display());
            }
            return Ok(Chart::Given(folder.to_owned()));
        }
        let folder = tempfile::Builder::new().prefix("meshctl-chart").tempdir();
        let folder = folder.context("cannot make a folder for the chart")?;
        for (name, text) in FILES {
            let path = folder.path().join(name);
            let parent = path.parent().context("a file in no folder")?;
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, text))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Chart::Own(folder))
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Chart::Own(folder) => folder.path(),
            Chart::Given(folder) => folder,
        }
    }

    /// Top-level keys of the chart's values.
    pub(crate) fn groups(&self) -> Result<Vec<String>> {
        let file = self.path().join("values.yaml");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let values: Value = serde_saphyr::from_str(&text).with_context(|| file.display().to_string())?;
        let keys = values.as_object().into_iter().flatten();
        Ok(keys.map(|(key, _)| key.clone()).collect())
    }

    /// Values of a profile, by its name or the path of a file.
    pub(crate) fn profile(&self, name: &str) -> Result<Value> {
        if name == EMPTY {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        let file = self.path().join(PROFILES).join(format!("{name}.yaml"));
        let file = if name.contains('/') { PathBuf::from(name) } else { file };
        if !file.is_file() {
            bail!("there is no profile {name:?}; there are {}", profiles().join(", "));
        }
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        serde_saphyr::from_str(&text).with_context(|| format!("profile {name}"))
    }
}

/// The profile that says nothing.
const EMPTY: &str = "empty";

/// Names of all profiles, the usual one first.
pub(crate) fn profiles() -> Vec<&'static str> {
    let files = FILES.iter().filter_map(|(name, _)| name.strip_prefix(PROFILES));
    let mut names: Vec<&str> = files.filter_map(|name| name.strip_suffix(".yaml")).collect();
    names.push(EMPTY);
    names.sort_by_key(|name| (*name != "default", *name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_is_whole() {
        let chart = Chart::unpack(None).expect("unpacked");
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/mesh");
        for part in [
            "Chart.yaml",
            "charts/base/files/crds/networking.istio.io_gateways.yaml",
            ".helmignore",
        ] {
            let [ours, theirs] = [chart.path(), &own].map(|folder| fs::read(folder.join(part)).expect(part));
            assert_eq!(ours, theirs, "{part}");
        }
        assert_eq!(profiles(), ["default", "demo", "empty", "minimal"]);
        for profile in profiles() {
            assert!(chart.profile(profile).expect(profile).is_object());
        }
        let error = chart.profile("ambient").expect_err("no such profile");
        assert!(
            format!("{error:#}").contains("default, demo, empty, minimal"),
            "{error:#}"
        );
        assert!(chart.groups().expect("groups").contains(&"meshConfig".to_owned()));
    }
}
