//! Clusters.

use mesh_api::names::ClusterName;

use super::{origin, text};
use crate::dump::Dump;

/// SERVICE FQDN, PORT, SUBSET, DIRECTION, TYPE, DESTINATION RULE.
pub(super) fn table(dump: &Dump) -> String {
    let mut rows: Vec<Vec<String>> = dump
        .resources("ClustersConfigDump", "cluster")
        .into_iter()
        .map(|cluster| {
            let name = text(&cluster["name"]);
            // STATIC is the default of the enum, and defaults are not written.
            let kind = cluster["type"].as_str().unwrap_or("STATIC").to_owned();
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
        })
        .collect();
    rows.sort();
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
