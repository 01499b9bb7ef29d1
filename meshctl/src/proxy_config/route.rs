//! Route tables.

use serde_json::Value;

use super::{origin, text};
use crate::dump::Dump;

/// As many domains as istioctl shows before it counts the rest.
const DOMAINS: usize = 2;

/// NAME, VHOST NAME, DOMAINS, MATCH, VIRTUAL SERVICE.
pub(super) fn table(dump: &Dump) -> String {
    let mut tables = dump.resources("RoutesConfigDump", "route_config");
    tables.sort_by_key(|t| text(&t["name"]));
    let mut rows = Vec::new();
    for table in tables {
        for host in table["virtual_hosts"].as_array().into_iter().flatten() {
            let first = [
                text(&table["name"]).to_owned(),
                text(&host["name"]).to_owned(),
                domains(&host["domains"]),
            ];
            let routes = host["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
            if routes.is_empty() {
                rows.push(
                    first
                        .iter()
                        .cloned()
                        .chain(["/*".to_owned(), "404".to_owned()])
                        .collect(),
                );
            }
            for route in routes {
                let service = origin(route, "virtual-service").unwrap_or_default();
                rows.push(first.iter().cloned().chain([path(&route["match"]), service]).collect());
            }
        }
    }
    crate::table::render(&["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"], &rows)
}

fn domains(list: &Value) -> String {
    let all: Vec<&str> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let shown = all.iter().take(DOMAINS).copied().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(DOMAINS) {
        Some(rest) if rest > 0 => format!("{shown} + {rest} more..."),
        _ => shown,
    }
}

fn path(matches: &Value) -> String {
    if let Some(prefix) = matches["prefix"]
        .as_str()
        .or_else(|| matches["path_separated_prefix"].as_str())
    {
        return format!("{prefix}*");
    }
    if let Some(path) = matches["path"].as_str() {
        return path.to_owned();
    }
    matches["safe_regex"]["regex"]
        .as_str()
        .map_or_else(|| "?".to_owned(), |r| format!("regex {r}"))
}
