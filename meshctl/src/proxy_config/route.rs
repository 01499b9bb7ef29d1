//! Route tables.

use clap::{ArgAction, Args};
use serde_json::Value;

use super::{Common, array, origin, text};
use crate::dump::Dump;

pub(super) const NAME: &str = "envoy.config.route.v3.RouteConfiguration";

/// As many domains as istioctl shows before it counts the rest.
const DOMAINS: usize = 2;

/// Which route tables, of which proxy.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) filter: Filter,
}

/// Which route tables.
#[derive(Args)]
pub(super) struct Filter {
    /// That of this name: 80
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(super) name: String,
    /// Each route in a line; without, each table
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub(super) verbose: bool,
}

impl Filter {
    /// Tables that pass, in the order of their names.
    pub(super) fn of<'a>(&self, dump: &'a Dump) -> Vec<&'a Value> {
        let mut tables = dump.resources("RoutesConfigDump", "route_config");
        tables.retain(|table| self.name.is_empty() || text(&table["name"]) == self.name);
        tables.sort_by_key(|t| text(&t["name"]));
        tables
    }
}

/// The rows of the tables that pass: one for each route, or for each table.
pub(super) fn rows(filter: &Filter, tables: &[&Value]) -> String {
    if filter.verbose { table(tables) } else { brief(tables) }
}

/// NAME, VIRTUAL HOSTS.
fn brief(tables: &[&Value]) -> String {
    let row = |table: &&Value| {
        let hosts = array(&table["virtual_hosts"]).len();
        vec![text(&table["name"]).to_owned(), hosts.to_string()]
    };
    let rows: Vec<_> = tables.iter().map(row).collect();
    crate::table::render(&["NAME", "VIRTUAL HOSTS"], &rows)
}

/// NAME, VHOST NAME, DOMAINS, MATCH, VIRTUAL SERVICE.
fn table(tables: &[&Value]) -> String {
    let mut rows = Vec::new();
    for table in tables {
        for host in array(&table["virtual_hosts"]) {
            let first = [
                text(&table["name"]).to_owned(),
                text(&host["name"]).to_owned(),
                domains(&host["domains"]),
            ];
            let routes = array(&host["routes"]);
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

/// The domains, without those that say the same again: with a port, with a dot at the end, or with more of the cluster's
/// own domain behind.
fn domains(list: &Value) -> String {
    let every: Vec<&str> = array(list).iter().filter_map(Value::as_str).collect();
    let has_port = |domain: &str| match domain.rsplit_once(':') {
        // Of an IPv6 address in brackets the last colon may be its own.
        Some((_, rest)) => !rest.ends_with(']'),
        None => false,
    };
    let said_before = |domain: &str| {
        let short = [".", ".svc.cluster.local", ".cluster.local", ".svc"].map(|end| domain.strip_suffix(end));
        short.into_iter().flatten().any(|short| every.contains(&short))
    };
    let wanted = |domain: &&str| every.len() == 1 || !(has_port(domain) || said_before(domain));
    let all: Vec<&str> = every.iter().copied().filter(wanted).collect();
    let shown = all.iter().take(DOMAINS).copied().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(DOMAINS) {
        Some(rest) if rest > 0 => format!("{shown} + {rest} more..."),
        _ => shown,
    }
}

/// What a path must be, as istioctl writes it.
pub(super) fn path(matches: &Value) -> String {
    if let Some(prefix) = matches["prefix"].as_str() {
        return format!("{prefix}*");
    }
    if let Some(prefix) = matches["path_separated_prefix"].as_str() {
        return format!("PathPrefix:{prefix}");
    }
    if let Some(path) = matches["path"].as_str() {
        return path.to_owned();
    }
    matches["safe_regex"]["regex"]
        .as_str()
        .map_or_else(|| "?".to_owned(), |r| format!("regex {r}"))
}
