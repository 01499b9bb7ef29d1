//! `proxy-config`: what a proxy was configured with, as tables or as Envoy's JSON.

mod all;
mod bootstrap;
mod cluster;
mod endpoint;
mod listener;
mod log;
mod route;
mod secret;
#[cfg(test)]
mod tests;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cluster::ClusterOptions;
use crate::dump::Dump;
use crate::envoy_json::bare;
use crate::output::Form;
use crate::proxy::Which;

/// What to show, and of which proxy.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  meshctl pc cluster deploy/webapp -n shop --fqdn catalog
  meshctl pc endpoint deploy/webapp -n shop --cluster 'outbound|80||catalog.shop.svc.cluster.local'
  meshctl pc route webapp-7d9c-x2.shop --name 80 -o json
  meshctl pc listener --proxy netns:fm-1-webapp         a proxy without Kubernetes
  meshctl pc all -f config_dump.json                    a saved /config_dump?include_eds";

/// Of which proxy, and how.
#[derive(Args)]
struct Common {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    form: Form,
}

#[derive(Subcommand)]
enum What {
    /// Every table
    #[command(visible_alias = "a")]
    All(all::Options),
    /// Clusters
    #[command(visible_aliases = ["c", "clusters"])]
    Cluster(cluster::Options),
    /// Listeners and their filter chains
    #[command(visible_aliases = ["l", "listeners"])]
    Listener(listener::Options),
    /// Route tables
    #[command(visible_aliases = ["r", "routes"])]
    Route(route::Options),
    /// Endpoints, and whether they take traffic
    #[command(visible_aliases = ["ep", "endpoints"])]
    Endpoint(endpoint::Options),
    /// Endpoints as the proxy was told of them
    Eds(endpoint::Options),
    /// Certificates
    #[command(visible_aliases = ["s", "secrets"])]
    Secret(secret::Options),
    /// Levels of the proxy's log; --level changes them
    #[command(visible_alias = "o")]
    Log(log::Options),
    /// What the proxy was started with
    #[command(visible_alias = "b")]
    Bootstrap(bootstrap::Options),
}

/// Asks the proxy and renders its answer.
pub(crate) async fn run(options: &Options, cluster: &ClusterOptions) -> Result<String> {
    match &options.what {
        What::All(all) => all::run(all, cluster).await,
        What::Cluster(filter) => {
            let dump = dump(&filter.common.which, cluster).await?;
            show(&filter.common, cluster::NAME, &filter.filter.of(&dump), cluster::table)
        }
        What::Listener(filter) => {
            let dump = dump(&filter.common.which, cluster).await?;
            let rows = |all: &[&Value]| listener::rows(&filter.filter, all);
            show(&filter.common, listener::NAME, &filter.filter.of(&dump), rows)
        }
        What::Route(filter) => {
            let dump = dump(&filter.common.which, cluster).await?;
            let rows = |all: &[&Value]| route::rows(&filter.filter, all);
            show(&filter.common, route::NAME, &filter.filter.of(&dump), rows)
        }
        What::Endpoint(filter) => {
            let proxy = filter.common.which.find(cluster).await?;
            endpoint::run(filter, &proxy, false).await
        }
        What::Eds(filter) => {
            let proxy = filter.common.which.find(cluster).await?;
            endpoint::run(filter, &proxy, true).await
        }
        What::Secret(secret) => {
            let dump = dump(&secret.common.which, cluster).await?;
            secret::run(&dump, secret.common.form)
        }
        What::Log(log) => log::run(log, cluster).await,
        What::Bootstrap(bootstrap) => {
            let dump = dump(&bootstrap.common.which, cluster).await?;
            bootstrap::run(&dump, bootstrap.common.form)
        }
    }
}

async fn dump(which: &Which, cluster: &ClusterOptions) -> Result<Dump> {
    Dump::of_proxy(&which.find(cluster).await?).await
}

/// Resources as a table, or as a list of messages of the named type.
fn show(common: &Common, type_name: &str, resources: &[&Value], table: impl Fn(&[&Value]) -> String) -> Result<String> {
    match common.form.structured() {
        None => Ok(table(resources)),
        Some(form) => {
            let all = resources.iter().map(|one| bare(type_name, one)).collect();
            form.write(&Value::Array(all))
        }
    }
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

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
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
