//! Listeners.

use serde_json::Value;

use super::{socket, text};
use crate::dump::Dump;

/// ADDRESSES, PORT, MATCH, DESTINATION.
pub(super) fn table(dump: &Dump) -> String {
    let mut listeners = dump.resources("ListenersConfigDump", "listener");
    listeners.sort_by_key(|l| (l["address"]["socket_address"]["port_value"].as_u64(), text(&l["name"])));
    let mut rows = Vec::new();
    for listener in listeners {
        let (address, port) = socket(&listener["address"]);
        let chains = listener["filter_chains"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        for chain in chains {
            rows.push(vec![
                address.clone(),
                port.clone(),
                criteria(&chain["filter_chain_match"]),
                destination(chain),
            ]);
        }
        if listener["default_filter_chain"].is_object() {
            let chain = &listener["default_filter_chain"];
            rows.push(vec![address, port, text(&chain["name"]).to_owned(), destination(chain)]);
        }
    }
    crate::table::render(&["ADDRESSES", "PORT", "MATCH", "DESTINATION"], &rows)
}

/// `Trans: tls; App: istio-http/1.1; Addr: *:8080`, `ALL` when there is no condition.
fn criteria(matches: &Value) -> String {
    let strings = |list: &Value| {
        let all: Vec<&str> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        all.join(",")
    };
    let mut parts = Vec::new();
    let names = strings(&matches["server_names"]);
    if !names.is_empty() {
        parts.push(format!("SNI: {names}"));
    }
    if let Some(transport) = matches["transport_protocol"].as_str() {
        parts.push(format!("Trans: {transport}"));
    }
    let applications = strings(&matches["application_protocols"]);
    if !applications.is_empty() {
        parts.push(format!("App: {applications}"));
    }
    let prefixes: Vec<String> = matches["prefix_ranges"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|range| {
            format!(
                "{}/{}",
                text(&range["address_prefix"]),
                range["prefix_len"].as_u64().unwrap_or(0)
            )
        })
        .collect();
    let port = matches["destination_port"]
        .as_u64()
        .map_or_else(String::new, |p| format!(":{p}"));
    if !prefixes.is_empty() || !port.is_empty() {
        let address = if prefixes.is_empty() {
            "*".to_owned()
        } else {
            prefixes.join(",")
        };
        parts.push(format!("Addr: {address}{port}"));
    }
    if parts.is_empty() {
        "ALL".to_owned()
    } else {
        parts.join("; ")
    }
}

fn destination(chain: &Value) -> String {
    for filter in chain["filters"].as_array().into_iter().flatten() {
        let config = &filter["typed_config"];
        if let Some(route) = config["rds"]["route_config_name"].as_str() {
            return format!("Route: {route}");
        }
        if let Some(cluster) = config["cluster"].as_str() {
            return format!("Cluster: {cluster}");
        }
        if config["weighted_clusters"].is_object() {
            let clusters = config["weighted_clusters"]["clusters"].as_array().into_iter().flatten();
            let all: Vec<String> = clusters
                .map(|c| format!("{}={}", text(&c["name"]), c["weight"]))
                .collect();
            return format!("Cluster: {}", all.join(", "));
        }
        if let Some(hosts) = config["route_config"]["virtual_hosts"].as_array() {
            let routes = hosts.iter().flat_map(|h| h["routes"].as_array().into_iter().flatten());
            let prefixes: Vec<String> = routes
                .filter_map(|r| Some(format!("{}*", r["match"]["prefix"].as_str()?)))
                .collect();
            return format!("Inline Route: {}", prefixes.join(", "));
        }
    }
    "Non-HTTP/Non-TCP".to_owned()
}
