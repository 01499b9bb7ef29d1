//! Endpoints: their state as the proxy sees it, or only what it was configured with.

use serde_json::Value;

use super::{socket, text};
use crate::dump::Dump;

/// ENDPOINT, STATUS, OUTLIER CHECK, CLUSTER, from the proxy's `/clusters?format=json`.
pub(super) fn states(clusters: &[Value]) -> String {
    let mut rows = Vec::new();
    for cluster in clusters {
        for host in cluster["host_statuses"].as_array().into_iter().flatten() {
            let health = &host["health_status"];
            let ejected = health["failed_outlier_check"].as_bool() == Some(true);
            rows.push(vec![
                name(&host["address"]),
                health["eds_health_status"].as_str().unwrap_or("UNKNOWN").to_owned(),
                if ejected { "FAILED" } else { "OK" }.to_owned(),
                text(&cluster["name"]).to_owned(),
            ]);
        }
    }
    rows.sort();
    crate::table::render(&["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"], &rows)
}

/// NAME, STATUS, LOCALITY, CLUSTER.
pub(super) fn table(dump: &Dump) -> String {
    let mut rows = Vec::new();
    for assignment in dump.resources("EndpointsConfigDump", "endpoint_config") {
        for group in assignment["endpoints"].as_array().into_iter().flatten() {
            let locality = ["region", "zone", "sub_zone"].map(|part| text(&group["locality"][part]));
            let locality = locality
                .into_iter()
                .filter(|p| !p.is_empty())
                .collect::<Vec<_>>()
                .join("/");
            for endpoint in group["lb_endpoints"].as_array().into_iter().flatten() {
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
        (ip, port) => format!("{ip}:{port}"),
    }
}
