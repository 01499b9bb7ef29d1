//! Environment variables and the files of the downward API, so that tests need neither.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What surrounds the process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    vars: BTreeMap<String, String>,
    /// Labels of the pod.
    pub labels_file: Option<PathBuf>,
    /// Annotations of the pod.
    pub annotations_file: Option<PathBuf>,
}

impl Environment {
    /// Of this process.
    pub fn from_process() -> Self {
        let file = |path: &str| Some(PathBuf::from(path)).filter(|p| p.is_file());
        Environment {
            vars: std::env::vars().collect(),
            labels_file: file("/etc/istio/pod/labels"),
            annotations_file: file("/etc/istio/pod/annotations"),
        }
    }

    /// Of these variables only.
    pub fn of<'a>(vars: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Environment {
            vars: vars.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..Environment::default()
        }
    }

    /// A variable; an empty one is as good as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Sets what is not set yet (`proxyMetadata`).
    pub(super) fn set_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.vars.insert(name.to_owned(), value.to_owned());
        }
    }

    /// All variables with a prefix, without it.
    pub(super) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.vars
            .range(prefix.to_owned()..)
            .take_while(move |(name, _)| name.starts_with(prefix))
            .map(move |(name, value)| (&name[prefix.len()..], value.as_str()))
    }
}

/// Reads a file of the downward API: `key="value"` lines, values quoted as Go does.
pub(super) fn downward(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            // The quoting is JSON's for everything that a label or annotation usually holds.
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.trim_matches('"').to_owned());
            Some((key.to_owned(), value))
        })
        .collect())
}
