//! `proxy-status`: which proxies are connected, and whether they hold what they should.

mod compare;
#[cfg(test)]
mod tests;

use std::io::Write as _;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::cluster::ClusterOptions;
use crate::cluster::target::Target;
use crate::control::{Replica, Which};
use crate::output::Form;
use crate::proxy::Place;

/// Which proxies, and how.
#[derive(clap::Args)]
#[command(after_help = "\
Columns:
  as istioctl has them today       NAME CLUSTER ISTIOD VERSION SUBSCRIBED TYPES
  -v 1                             NAME CLUSTER CDS ECDS EDS LDS RDS ISTIOD VERSION
  --legacy, istioctl 1.15 to 1.24  NAME CLUSTER CDS LDS EDS RDS ECDS ISTIOD VERSION
A cell is SYNCED (taken), STALE (sent, not answered yet), ERROR (refused; why is said on standard error) or NOT SENT.

With a pod, what the control plane has for it is compared with what its proxy holds.

Examples:
  meshctl proxy-status                         all proxies
  meshctl proxy-status -n shop                 those of a namespace
  meshctl proxy-status deploy/webapp.shop      what one of them lacks

Of a mesh without Kubernetes:
  meshctl proxy-status --control 127.0.0.1:15014
  meshctl proxy-status --control netns:fm-1-istiod webapp-1.shop --proxy netns:fm-1-webapp
  meshctl proxy-status --control 192.0.2.7:15014 --token token webapp-1.shop --file config_dump.json")]
pub(crate) struct Options {
    /// Compare what this pod's proxy holds with what it should hold: NAME, NAME.NAMESPACE, deploy/NAME
    #[arg(value_name = "POD")]
    target: Option<Target>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    which: Which,
    /// 1: the state of each type
    #[arg(long, short, value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
    /// The state of each type, in the columns of istioctl 1.15 to 1.24
    #[arg(long)]
    legacy: bool,
    #[command(flatten)]
    form: Form,
}

/// Columns of a state: heading, and the key in the entry's `xds`.
type States = [(&'static str, &'static str); 5];

const VERBOSE: States = [
    ("CDS", "cds"),
    ("ECDS", "ecds"),
    ("EDS", "eds"),
    ("LDS", "lds"),
    ("RDS", "rds"),
];
const LEGACY: States = [
    ("CDS", "cds"),
    ("LDS", "lds"),
    ("EDS", "eds"),
    ("RDS", "rds"),
    ("ECDS", "ecds"),
];

/// Asks every replica.
pub(crate) async fn run(options: &Options, cluster: &ClusterOptions) -> Result<String> {
    let replicas = options.which.replicas(cluster).await?;
    if let Some(target) = &options.target {
        return compare::run(target, &options.place, &replicas, cluster).await;
    }
    if options.place.given().is_some() {
        bail!("whose proxy is that? Name its pod too: NAME.NAMESPACE");
    }
    let mut all = Vec::new();
    for replica in &replicas {
        for mut proxy in replica.proxies().await? {
            proxy["istiod"] = json!(replica.name());
            all.push(proxy);
        }
    }
    if let Some(namespace) = &cluster.namespace {
        let end = format!(".{namespace}");
        all.retain(|p| text(&p["proxy"]).ends_with(&end));
    }
    if all.is_empty() {
        let of = cluster.namespace.as_ref().map(|n| format!(" of namespace {n}"));
        let names: Vec<String> = replicas.iter().map(Replica::name).collect();
        let _ = writeln!(
            std::io::stderr(),
            "meshctl: no proxy{} is connected to {}",
            of.unwrap_or_default(),
            names.join(", ")
        );
    }
    all.sort_by_key(|p| (text(&p["proxy"]).to_owned(), text(&p["istiod"]).to_owned()));
    for line in refusals(&all) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    match options.form.structured() {
        Some(form) => form.write(&Value::Array(all)),
        None if options.legacy => Ok(states(&all, &LEGACY)),
        None if options.verbosity > 0 => Ok(states(&all, &VERBOSE)),
        None => Ok(subscribed(&all)),
    }
}

/// NAME, CLUSTER, ISTIOD, VERSION, SUBSCRIBED TYPES.
fn subscribed(proxies: &[Value]) -> String {
    let row = |proxy: &Value| {
        let order = ["cds", "lds", "eds", "rds", "ecds"];
        let asked = |key: &&str| state(proxy, key) != "NOT SENT";
        let types: Vec<String> = order.into_iter().filter(asked).map(str::to_uppercase).collect();
        let mut cells = vec![
            text(&proxy["proxy"]).to_owned(),
            text(&proxy["cluster_id"]).to_owned(),
            text(&proxy["istiod"]).to_owned(),
            text(&proxy["istio_version"]).to_owned(),
        ];
        cells.push(format!("{} ({})", types.len(), types.join(",")));
        cells
    };
    let rows: Vec<_> = proxies.iter().map(row).collect();
    crate::table::render(&["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"], &rows)
}

/// NAME, CLUSTER, the states, ISTIOD, VERSION.
fn states(proxies: &[Value], columns: &States) -> String {
    let row = |proxy: &Value| {
        let mut cells = vec![text(&proxy["proxy"]).to_owned(), text(&proxy["cluster_id"]).to_owned()];
        cells.extend(columns.iter().map(|(_, key)| state(proxy, key).to_owned()));
        cells.push(text(&proxy["istiod"]).to_owned());
        cells.push(text(&proxy["istio_version"]).to_owned());
        cells
    };
    let rows: Vec<_> = proxies.iter().map(row).collect();
    let headings = ["NAME", "CLUSTER"].into_iter();
    let headings = headings.chain(columns.iter().map(|(heading, _)| *heading));
    let headings: Vec<&str> = headings.chain(["ISTIOD", "VERSION"]).collect();
    crate::table::render(&headings, &rows)
}

/// A line for each type that a proxy has refused.
fn refusals(proxies: &[Value]) -> Vec<String> {
    let mut out = Vec::new();
    for proxy in proxies {
        for (key, one) in proxy["xds"].as_object().into_iter().flatten() {
            let refused = one["refused"].as_array().map(Vec::as_slice).unwrap_or_default();
            if !refused.is_empty() {
                let names: Vec<&str> = refused.iter().filter_map(Value::as_str).collect();
                out.push(format!(
                    "{}: {} refused {}: {}",
                    text(&proxy["proxy"]),
                    key.to_uppercase(),
                    names.join(", "),
                    one["error"].as_str().unwrap_or("it does not say why")
                ));
            }
        }
    }
    out
}

fn state<'a>(proxy: &'a Value, key: &str) -> &'a str {
    proxy["xds"][key]["state"].as_str().unwrap_or("NOT SENT")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
