//! A proxy's configuration dump: from a file, or from the admin port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Longest wait for the admin port.
const TIMEOUT: Duration = Duration::from_secs(10);

/// `/config_dump` of a proxy, or its `/clusters?format=json`.
pub(crate) struct Dump(Value);

impl Dump {
    /// Reads a file that holds the answer of `/config_dump?include_eds`.
    pub(crate) fn from_file(path: &Path) -> Result<Dump> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        let value =
            serde_json::from_slice(&text).with_context(|| format!("{} is no configuration dump", path.display()))?;
        Ok(Dump(value))
    }

    /// Asks the admin port on this machine for its configuration.
    pub(crate) fn from_admin(port: u16) -> Result<Dump> {
        Dump::ask(port, "/config_dump?include_eds")
    }

    /// Asks the admin port on this machine for the state of its endpoints.
    pub(crate) fn clusters_from_admin(port: u16) -> Result<Dump> {
        Dump::ask(port, "/clusters?format=json")
    }

    fn ask(port: u16, path: &str) -> Result<Dump> {
        let address = format!("127.0.0.1:{port}");
        let mut stream = TcpStream::connect(&address).with_context(|| {
            format!("no proxy answers on {address}; is this its pod? Give a saved dump with -f FILE")
        })?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // HTTP/1.0: the answer ends with the connection, and is not cut into chunks.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .with_context(|| format!("the answer of {address}"))?;
        let end = answer
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .context("the answer has no end of headers")?;
        let head = String::from_utf8_lossy(&answer[..end]);
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        if status != "200" {
            bail!(
                "{address} answered {status}: {}",
                String::from_utf8_lossy(&answer[end + 4..]).trim()
            );
        }
        Ok(Dump(
            serde_json::from_slice(&answer[end + 4..]).context("the answer is no JSON")?,
        ))
    }

    /// The clusters with the state of their endpoints, if this is what `/clusters?format=json` answers.
    pub(crate) fn cluster_statuses(&self) -> Option<&Vec<Value>> {
        self.0["cluster_statuses"].as_array()
    }

    /// All of it, as it came.
    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    /// The resources of one section, static and dynamic: the values under `inner` (or under `active_state` and `inner`).
    pub(crate) fn resources<'a>(&'a self, section: &str, inner: &'a str) -> Vec<&'a Value> {
        let suffix = format!(".{section}");
        let sections = self.0["configs"].as_array().into_iter().flatten();
        let section = sections.filter(|s| s["@type"].as_str().is_some_and(|t| t.ends_with(&suffix)));
        let lists = section
            .filter_map(Value::as_object)
            .flat_map(|s| s.values().filter_map(Value::as_array))
            .flatten();
        lists
            .map(|item| {
                if item["active_state"].is_object() {
                    &item["active_state"]
                } else {
                    item
                }
            })
            .map(|item| &item[inner])
            .filter(|resource| resource.is_object())
            .collect()
    }

    /// The sections of these types as they came, for `-o json`.
    pub(crate) fn sections(&self, names: &[&str]) -> Vec<&Value> {
        let wanted = |s: &&Value| {
            let kind = s["@type"].as_str().unwrap_or_default();
            names.iter().any(|name| kind.ends_with(&format!(".{name}")))
        };
        self.0["configs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(wanted)
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn of(value: Value) -> Dump {
        Dump(value)
    }
}
