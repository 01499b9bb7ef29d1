//! `proxy-config`: what a proxy was configured with, as tables.

mod cluster;
mod endpoint;
mod listener;
mod route;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

use crate::dump::Dump;

/// What to show, and of which proxy.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kind of resource
    #[arg(value_enum)]
    what: What,
    /// A saved `/config_dump?include_eds` (of endpoints: or `/clusters?format=json`) in place of the proxy on this machine
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// Admin port of the proxy
    #[arg(long, default_value_t = mesh_api::names::port::ADMIN)]
    proxy_admin_port: u16,
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "short")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Every table
    All,
    /// Listeners and their filter chains
    #[value(alias = "l", alias = "listeners")]
    Listener,
    /// Route tables
    #[value(alias = "r", alias = "routes")]
    Route,
    /// Clusters
    #[value(alias = "c", alias = "clusters")]
    Cluster,
    /// Endpoints
    #[value(alias = "ep", alias = "endpoints")]
    Endpoint,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Tables
    Short,
    /// The dump's own JSON
    Json,
}

type Table = fn(&Dump) -> String;

/// A kind of resource: what asks for it, its section in a dump, its table.
const KINDS: [(What, &str, Table); 4] = [
    (What::Cluster, "ClustersConfigDump", cluster::table),
    (What::Listener, "ListenersConfigDump", listener::table),
    (What::Route, "RoutesConfigDump", route::table),
    (What::Endpoint, "EndpointsConfigDump", endpoint::table),
];

/// Reads the dump and renders it.
pub(crate) fn run(options: &Options) -> Result<String> {
    let dump = match &options.file {
        Some(file) => Dump::from_file(file)?,
        // What endpoints are configured as says nothing of those that were ejected.
        None if options.what == What::Endpoint => Dump::clusters_from_admin(options.proxy_admin_port)?,
        None => Dump::from_admin(options.proxy_admin_port)?,
    };
    if options.what == What::Endpoint
        && let Some(clusters) = dump.cluster_statuses()
    {
        return Ok(match options.output {
            Output::Short => endpoint::states(clusters),
            Output::Json => format!("{:#}\n", dump.value()),
        });
    }
    let chosen = KINDS
        .iter()
        .filter(|(what, ..)| options.what == What::All || options.what == *what);
    Ok(match options.output {
        Output::Short => chosen.map(|(.., table)| table(&dump)).collect::<Vec<_>>().join("\n"),
        Output::Json => {
            let names: Vec<&str> = chosen.map(|(_, section, _)| *section).collect();
            format!("{:#}\n", Value::from_iter(dump.sections(&names).into_iter().cloned()))
        }
    })
}

/// `NAME.NAMESPACE` of the object behind a resource: `metadata.filter_metadata.istio.config`.
fn origin(resource: &Value, kind: &str) -> Option<String> {
    let path = resource["metadata"]["filter_metadata"]["istio"]["config"].as_str()?;
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().position(|p| *p == kind)?;
    let (namespace, name) = (parts.get(at.checked_sub(1)?)?, parts.get(at + 1)?);
    Some(format!("{name}.{namespace}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `ADDRESS` and `PORT` of a `socket_address`.
fn socket(address: &Value) -> (String, String) {
    let socket = &address["socket_address"];
    let port = socket["port_value"]
        .as_u64()
        .map_or_else(String::new, |p| p.to_string());
    match address["pipe"]["path"].as_str() {
        Some(path) => (format!("unix://{path}"), String::new()),
        None => (text(&socket["address"]).to_owned(), port),
    }
}
