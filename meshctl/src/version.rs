//! `version`: of this program, of the control plane, of the proxies.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::ArgAction;
use serde_json::{Value, json};

use crate::cluster::ClusterOptions;
use crate::control::Which;
use crate::http::Reply;
use crate::output::Form;

const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// What to ask, and how to show it.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    which: Which,
    /// Ask the control plane too
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    remote: bool,
    /// Versions alone; there is nothing longer, the flag is istioctl's
    #[arg(long, short, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", hide = true)]
    short: bool,
    #[command(flatten)]
    form: Form,
}

/// What is known of the mesh.
#[derive(Default)]
struct Mesh {
    /// Version of each replica of the control plane.
    control: Vec<(String, String)>,
    /// Version of each proxy.
    data: Vec<(String, String)>,
}

/// Asks, and renders.
pub(crate) async fn run(options: &Options, cluster: &ClusterOptions) -> Result<String> {
    let mesh = if options.remote {
        match ask(options, cluster).await {
            Ok(mesh) => Some(mesh),
            Err(error) => {
                // Our own version is worth something too.
                let _ = writeln!(std::io::stderr(), "meshctl: {error:#}");
                None
            }
        }
    } else {
        None
    };
    match options.form.structured() {
        None => Ok(lines(mesh.as_ref())),
        Some(form) => form.write(&document(mesh.as_ref())),
    }
}

async fn ask(options: &Options, cluster: &ClusterOptions) -> Result<Mesh> {
    let mut mesh = Mesh::default();
    for replica in options.which.replicas(cluster).await? {
        let version = replica.page("/version").await.and_then(Reply::text);
        let version = version.with_context(|| replica.name())?;
        mesh.control.push((replica.name(), version.trim().to_owned()));
        for proxy in replica.proxies().await? {
            let text = |key: &str| proxy[key].as_str().unwrap_or_default().to_owned();
            mesh.data.push((text("proxy"), text("istio_version")));
        }
    }
    mesh.data.sort();
    mesh.data.dedup();
    Ok(mesh)
}

fn lines(mesh: Option<&Mesh>) -> String {
    let mut out = format!("client version: {CLIENT}\n");
    let Some(mesh) = mesh else { return out };
    let distinct: BTreeMap<&str, ()> = mesh.control.iter().map(|(_, v)| (v.as_str(), ())).collect();
    let control: Vec<&str> = distinct.into_keys().collect();
    out.push_str(&format!("control plane version: {}\n", control.join(", ")));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, version) in &mesh.data {
        *counts.entry(version).or_default() += 1;
    }
    let word = |count: usize| if count == 1 { "proxy" } else { "proxies" };
    let data: Vec<String> = counts
        .into_iter()
        .map(|(version, count)| {
            let version = if version.is_empty() { "unknown" } else { version };
            format!("{version} ({count} {})", word(count))
        })
        .collect();
    let data = if data.is_empty() {
        "none".to_owned()
    } else {
        data.join(", ")
    };
    out.push_str(&format!("data plane version: {data}\n"));
    out
}

/// The keys of istioctl's document.
fn document(mesh: Option<&Mesh>) -> Value {
    let mut out = json!({"clientVersion": {"version": CLIENT}});
    if let Some(mesh) = mesh {
        let control = |(name, version): &(String, String)| json!({"Component": "pilot", "Pod": name, "Info": {"version": version}});
        out["meshVersion"] = mesh.control.iter().map(control).collect();
        let data = |(id, version): &(String, String)| json!({"ID": id, "IstioVersion": version});
        out["dataPlaneVersion"] = mesh.data.iter().map(data).collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_counted() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let mesh = Mesh {
            control: vec![pair("istiod-1", "0.1.0"), pair("istiod-2", "0.1.0")],
            data: vec![pair("a.x", "0.1.0"), pair("b.x", "0.1.0"), pair("c.x", "0.0.9")],
        };
        assert_eq!(
            lines(Some(&mesh)),
            format!(
                "client version: {CLIENT}\ncontrol plane version: 0.1.0\n\
                 data plane version: 0.0.9 (1 proxy), 0.1.0 (2 proxies)\n"
            )
        );
        assert_eq!(lines(None), format!("client version: {CLIENT}\n"));
        assert_eq!(document(Some(&mesh))["meshVersion"][1]["Pod"], "istiod-2");
    }
}
