//! Clusters.

use clap::Args;
use mesh_api::names::ClusterName;
use serde_json::Value;

use super::{Common, origin, text};
use crate::dump::Dump;

pub(super) const NAME: &str = "envoy.config.cluster.v3.Cluster";

/// Which clusters, of which proxy.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) filter: Filter,
}

/// Which clusters.
#[derive(Args, Default)]
pub(super) struct Filter {
    /// Those of hosts with this in their names: catalog.shop
    #[arg(long, value_name = "HOST", default_value = "")]
    pub(super) fqdn: String,
    /// Those of this port of the service
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// Those of this subset
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(super) subset: String,
    /// Those for what comes to the application, or for what it sends
    #[arg(long, value_name = "DIRECTION", value_parser = ["inbound", "outbound"])]
    pub(super) direction: Option<String>,
}

impl Filter {
    /// Clusters that pass, in the order of the table.
    pub(super) fn of<'a>(&self, dump: &'a Dump) -> Vec<&'a Value> {
        let mut clusters = dump.resources("ClustersConfigDump", "cluster");
        clusters.retain(|cluster| self.passes(text(&cluster["name"])));
        clusters.sort_by_cached_key(|c| cells(c));
        clusters
    }

    fn passes(&self, name: &str) -> bool {
        let Some(parts) = ClusterName::parse(name) else {
            // Clusters without a service have nothing but a name.
            let others = self.port.is_some() || !self.subset.is_empty() || self.direction.is_some();
            return !others && name.contains(&self.fqdn);
        };
        parts.host.contains(&self.fqdn)
            && self.port.is_none_or(|port| parts.port == port)
            && (self.subset.is_empty() || parts.subset == self.subset)
            && self.direction.as_ref().is_none_or(|d| parts.direction == d)
    }
}

/// SERVICE FQDN, PORT, SUBSET, DIRECTION, TYPE, DESTINATION RULE.
pub(super) fn table(clusters: &[&Value]) -> String {
    let rows: Vec<Vec<String>> = clusters.iter().map(|c| cells(c)).collect();
    crate::table::render(
        &[
            "SERVICE FQDN",
            "PORT",
            "SUBSET",
            "DIRECTION",
            "TYPE",
            "DESTINATION RULE",
        ],
        &rows,
    )
}

fn cells(cluster: &Value) -> Vec<String> {
    let name = text(&cluster["name"]);
    // STATIC is the default of the enum, and defaults are not written.
    let kind = cluster["type"]
        .as_str()
        .or(cluster["cluster_type"]["name"].as_str())
        .unwrap_or("STATIC")
        .to_owned();
    let rule = origin(cluster, "destination-rule").unwrap_or_default();
    let cells = match ClusterName::parse(name) {
        Some(n) => [
            n.host.to_owned(),
            n.port.to_string(),
            n.subset.to_owned(),
            n.direction.to_owned(),
        ],
        None => [name.to_owned(), String::new(), String::new(), String::new()],
    };
    let dash = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
    let [host, port, subset, direction] = cells;
    vec![host, dash(port), dash(subset), dash(direction), kind, rule]
}
