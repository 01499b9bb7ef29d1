//! Endpoints: their state as the proxy sees it, or what it was told of them.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{Common, array, socket, text};
use crate::dump::{self, Dump};
use crate::envoy_json::bare;
use crate::proxy::Proxy;

const STATES: &str = "/clusters?format=json";

/// Which endpoints, of which proxy.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) filter: Filter,
}

/// Which endpoints.
#[derive(Args, Default)]
pub(super) struct Filter {
    /// Those of this address
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub(super) address: String,
    /// Those of this port
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// Those of this cluster: 'outbound|80||catalog.shop.svc.cluster.local'
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(super) cluster: String,
    /// Those of this status: healthy, unhealthy, degraded, …
    #[arg(long, value_name = "STATUS", default_value = "")]
    pub(super) status: String,
}

impl Filter {
    fn passes(&self, cluster: &str, address: &Value, status: &str) -> bool {
        let (ip, port) = socket(address);
        (self.address.is_empty() || ip == self.address)
            && self.port.is_none_or(|wanted| port == wanted.to_string())
            && (self.cluster.is_empty() || cluster == self.cluster)
            && (self.status.is_empty() || status.eq_ignore_ascii_case(&self.status))
    }

    /// The clusters of `/clusters?format=json` with the endpoints that pass; those left with none are left out.
    pub(super) fn states(&self, clusters: &[Value]) -> Vec<Value> {
        let mut out = Vec::new();
        for cluster in clusters {
            let passes = |host: &&Value| {
                let status = status_of(&host["health_status"]);
                self.passes(text(&cluster["name"]), &host["address"], &status)
            };
            let hosts: Vec<Value> = array(&cluster["host_statuses"])
                .iter()
                .filter(passes)
                .cloned()
                .collect();
            if !hosts.is_empty() {
                let mut cluster = cluster.clone();
                cluster["host_statuses"] = Value::Array(hosts);
                out.push(cluster);
            }
        }
        out
    }

    /// The assignments of a dump with the endpoints that pass.
    pub(super) fn assignments(&self, dump: &Dump) -> Vec<Value> {
        let mut out = Vec::new();
        for assignment in dump.resources("EndpointsConfigDump", "endpoint_config") {
            let mut assignment = assignment.clone();
            let cluster = text(&assignment["cluster_name"]).to_owned();
            for group in assignment["endpoints"].as_array_mut().into_iter().flatten() {
                if let Some(endpoints) = group["lb_endpoints"].as_array_mut() {
                    endpoints.retain(|e| {
                        let status = e["health_status"].as_str().unwrap_or("HEALTHY");
                        self.passes(&cluster, &e["endpoint"]["address"], status)
                    });
                }
            }
            let left = |group: &Value| !array(&group["lb_endpoints"]).is_empty();
            if array(&assignment["endpoints"]).iter().any(left) {
                out.push(assignment);
            }
        }
        out
    }
}

/// Asks for the states, or with `told` for what the proxy was told. A saved file says itself which of the two it is.
pub(super) async fn run(options: &Options, proxy: &Proxy, told: bool) -> Result<String> {
    let page = proxy.page(if told { dump::PAGE } else { STATES }).await?;
    let (type_name, chosen, table): (_, _, fn(&[Value]) -> String) = match page["cluster_statuses"].as_array() {
        Some(clusters) => (
            "envoy.admin.v3.ClusterStatus",
            options.filter.states(clusters),
            states_table,
        ),
        None => (
            "envoy.config.endpoint.v3.ClusterLoadAssignment",
            options.filter.assignments(&Dump::of(page)),
            table,
        ),
    };
    match options.common.form.structured() {
        None => Ok(table(&chosen)),
        Some(form) => form.write(&chosen.iter().map(|one| bare(type_name, one)).collect()),
    }
}

/// ENDPOINT, STATUS, OUTLIER CHECK, CLUSTER.
pub(super) fn states_table(clusters: &[Value]) -> String {
    let mut rows = Vec::new();
    for cluster in clusters {
        for host in array(&cluster["host_statuses"]) {
            let health = &host["health_status"];
            let ejected = health["failed_outlier_check"].as_bool() == Some(true);
            rows.push(vec![
                name(&host["address"]),
                status_of(health),
                if ejected { "FAILED" } else { "OK" }.to_owned(),
                text(&cluster["name"]).to_owned(),
            ]);
        }
    }
    rows.sort();
    crate::table::render(&["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"], &rows)
}

fn status_of(health: &Value) -> String {
    health["eds_health_status"].as_str().unwrap_or("UNKNOWN").to_owned()
}

/// NAME, STATUS, LOCALITY, CLUSTER.
pub(super) fn table(assignments: &[Value]) -> String {
    let mut rows = Vec::new();
    for assignment in assignments {
        for group in array(&assignment["endpoints"]) {
            let locality = ["region", "zone", "sub_zone"].map(|part| text(&group["locality"][part]));
            let locality = locality
                .into_iter()
                .filter(|p| !p.is_empty())
                .collect::<Vec<_>>()
                .join("/");
            for endpoint in array(&group["lb_endpoints"]) {
                rows.push(vec![
                    name(&endpoint["endpoint"]["address"]),
                    // UNKNOWN, the default, is taken for healthy.
                    endpoint["health_status"].as_str().unwrap_or("HEALTHY").to_owned(),
                    locality.clone(),
                    text(&assignment["cluster_name"]).to_owned(),
                ]);
            }
        }
    }
    rows.sort();
    crate::table::render(&["NAME", "STATUS", "LOCALITY", "CLUSTER"], &rows)
}

fn name(address: &Value) -> String {
    match socket(address) {
        (path, port) if port.is_empty() => path,
        (ip, port) if ip.contains(':') => format!("[{ip}]:{port}"),
        (ip, port) => format!("{ip}:{port}"),
    }
}
