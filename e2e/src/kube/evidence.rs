//! What explains a failure, kept in a folder before the namespaces go.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::run::World;
use super::space::LABEL;

/// Writes objects, events, logs and the proxies' configuration of a scenario's namespaces and of the mesh's own.
pub(super) fn collect(world: &World, scenario: &str, folder: &Path, error: &str) -> Result<()> {
    // An earlier failure must not be read as this one's.
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(folder.join("error.txt"), error)?;
    let own = world
        .kubectl
        .get(&["namespaces", "-l", &format!("{LABEL}={scenario}")])?;
    let mut namespaces: Vec<String> = names(&own).collect();
    namespaces.push(world.system.clone());
    for namespace in namespaces {
        let kubectl = world.kubectl.within(&namespace);
        let write = |name: &str, said: Result<String>| {
            let text = said.unwrap_or_else(|error| format!("{error:#}"));
            fs::write(folder.join(format!("{namespace}-{name}")), text)
        };
        write("all.txt", kubectl.run(&["get", "all,configmap,lease", "-o", "wide"]))?;
        write("mesh.yaml", kubectl.run(&["get", "istio-io", "-o", "yaml"]))?;
        write("pods.txt", kubectl.run(&["describe", "pods"]))?;
        write(
            "events.txt",
            kubectl.run(&["get", "events", "--sort-by=.lastTimestamp"]),
        )?;
        let pods = kubectl.get(&["pods"])?;
        for pod in names(&pods) {
            write(
                &format!("{pod}.log"),
                kubectl.run(&["logs", &pod, "--all-containers", "--prefix", "--tail=20000"]),
            )?;
            let dump = ["curl", "-s", "-m", "5", "localhost:15000/config_dump"];
            if let Ok(dump) = kubectl.exec(&pod, "istio-proxy", &dump) {
                write(&format!("{pod}-config.json"), Ok(dump))?;
            }
        }
    }
    Ok(())
}

/// Lines of each file that [`short`] repeats, and of all.
const TAIL: (usize, usize) = (8, 150);

/// The last events and the last lines of each log in the folder, those of the mesh's own namespace at the end.
pub(super) fn short(folder: &Path, system: &str) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    files.retain(|name| name.ends_with(".log") || name.ends_with("-events.txt"));
    // Events say more in fewer lines.
    files.sort_by_key(|name| (name.starts_with(system), name.ends_with(".log"), name.clone()));
    let mut lines = Vec::new();
    for name in files {
        let text = fs::read(folder.join(&name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        if last.is_empty() {
            continue;
        }
        lines.push(format!("{name}:"));
        let from = last.len().saturating_sub(TAIL.0);
        lines.extend(last[from..].iter().map(|l| format!("    {}", head(l))));
    }
    lines.truncate(TAIL.1);
    lines.join("\n")
}

/// The beginning of a line; access logs have long ones.
fn head(line: &str) -> &str {
    let end = line.char_indices().nth(300).map_or(line.len(), |(at, _)| at);
    &line[..end]
}

fn names(list: &Value) -> impl Iterator<Item = String> + '_ {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| Some(item["metadata"]["name"].as_str()?.to_owned()))
}
