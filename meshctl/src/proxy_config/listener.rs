//! Listeners.

use clap::{ArgAction, Args};
use mesh_api::names::{BLACK_HOLE_CLUSTER, INBOUND_PASSTHROUGH_CLUSTER, PASSTHROUGH_CLUSTER};
use serde_json::Value;

use super::route::path;
use super::{Common, array, socket, text};
use crate::dump::Dump;

pub(super) const NAME: &str = "envoy.config.listener.v3.Listener";

/// Which listeners, of which proxy.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) filter: Filter,
}

/// Which listeners.
#[derive(Args)]
pub(super) struct Filter {
    /// Those of this address
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub(super) address: String,
    /// Those of this port
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// Those of this type: HTTP, TCP, HTTP+TCP, UNKNOWN
    #[arg(long = "type", value_name = "TYPE", default_value = "")]
    pub(super) kind: String,
    /// Each filter chain in a line; without, each listener
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub(super) verbose: bool,
}

impl Filter {
    /// Listeners that pass, in the order of the table.
    pub(super) fn of<'a>(&self, dump: &'a Dump) -> Vec<&'a Value> {
        let mut listeners = dump.resources("ListenersConfigDump", "listener");
        listeners.retain(|listener| {
            let (addresses, port) = addresses(listener);
            (self.address.is_empty() || addresses.split(',').any(|a| self.address.eq_ignore_ascii_case(a)))
                && self.port.is_none_or(|wanted| wanted.to_string() == port)
                && (self.kind.is_empty() || self.kind.eq_ignore_ascii_case(kind(listener)))
        });
        listeners.sort_by_key(|l| (l["address"]["socket_address"]["port_value"].as_u64(), text(&l["name"])));
        listeners
    }
}

/// The rows of the listeners that pass: one for each chain, or for each listener.
pub(super) fn rows(filter: &Filter, listeners: &[&Value]) -> String {
    if filter.verbose {
        table(listeners)
    } else {
        brief(listeners)
    }
}

/// All of its addresses, and its port.
fn addresses(listener: &Value) -> (String, String) {
    let (mut all, port) = socket(&listener["address"]);
    for more in array(&listener["additional_addresses"]) {
        all.push(',');
        all.push_str(&socket(&more["address"]).0);
    }
    (all, port)
}

/// What its chains end in.
fn kind(listener: &Value) -> &'static str {
    let chains = array(&listener["filter_chains"])
        .iter()
        .chain(Some(&listener["default_filter_chain"]));
    let (mut http, mut tcp) = (false, false);
    for filter in chains.flat_map(|chain| array(&chain["filters"])) {
        let config = text(&filter["typed_config"]["@type"]);
        http |= config.ends_with(".HttpConnectionManager");
        tcp |= config.ends_with(".TcpProxy");
    }
    match (http, tcp) {
        (true, true) => "HTTP+TCP",
        (true, false) => "HTTP",
        (false, true) => "TCP",
        (false, false) => "UNKNOWN",
    }
}

/// ADDRESSES, PORT, TYPE.
fn brief(listeners: &[&Value]) -> String {
    let row = |listener: &&Value| {
        let (address, port) = addresses(listener);
        vec![address, port, kind(listener).to_owned()]
    };
    let rows: Vec<_> = listeners.iter().map(row).collect();
    crate::table::render(&["ADDRESSES", "PORT", "TYPE"], &rows)
}

/// ADDRESSES, PORT, MATCH, DESTINATION.
fn table(listeners: &[&Value]) -> String {
    let mut rows = Vec::new();
    for listener in listeners {
        let (address, port) = addresses(listener);
        for chain in array(&listener["filter_chains"]) {
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
        let all: Vec<&str> = array(list).iter().filter_map(Value::as_str).collect();
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
    let prefixes: Vec<String> = array(&matches["prefix_ranges"])
        .iter()
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
    for filter in array(&chain["filters"]) {
        let config = &filter["typed_config"];
        if let Some(route) = config["rds"]["route_config_name"].as_str() {
            return format!("Route: {route}");
        }
        if let Some(cluster) = config["cluster"].as_str() {
            return of_cluster(cluster);
        }
        if config["weighted_clusters"].is_object() {
            let clusters = array(&config["weighted_clusters"]["clusters"]);
            let all: Vec<String> = clusters
                .iter()
                .map(|c| format!("{}={}", text(&c["name"]), c["weight"]))
                .collect();
            return format!("Cluster: {}", all.join(", "));
        }
        if let Some(hosts) = config["route_config"]["virtual_hosts"].as_array() {
            return inline(hosts);
        }
    }
    "Non-HTTP/Non-TCP".to_owned()
}

/// Those that the mesh has by itself stand under their bare names.
fn of_cluster(name: &str) -> String {
    if [BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, INBOUND_PASSTHROUGH_CLUSTER].contains(&name) {
        name.to_owned()
    } else {
        format!("Cluster: {name}")
    }
}

/// The cluster where everything goes to one, else each host with its paths.
fn inline(hosts: &[Value]) -> String {
    let every = |host: &Value| matches!(array(&host["domains"]), [domain] if domain == "*");
    if let [host] = hosts
        && every(host)
        && let [route] = array(&host["routes"])
        && route["match"]["prefix"] == "/"
        && let Some(cluster) = route["route"]["cluster"].as_str()
    {
        return of_cluster(cluster);
    }
    let one = |host: &Value| {
        let paths: Vec<String> = array(&host["routes"]).iter().map(|r| path(&r["match"])).collect();
        let domains: Vec<&str> = array(&host["domains"]).iter().map(text).collect();
        if every(host) {
            paths.join(", ")
        } else {
            format!("{} {}", domains.join("/"), paths.join(", "))
        }
    };
    let all: Vec<String> = hosts.iter().map(one).collect();
    format!("Inline Route: {}", all.join("; "))
}
