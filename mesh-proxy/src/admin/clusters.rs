//! `/clusters` and `/listeners`.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mesh_api::envoy::type_url;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::State;
use super::json::pretty;
use super::server::{Call, JSON, Reply, TEXT};
use crate::snapshot::resources::Source;
use crate::snapshot::{Cluster, Discovery, Endpoint, HostMonitor, Rate};

pub(super) fn page(call: &Call, state: &State) -> Reply {
    let filter = match call.get("filter").filter(|f| !f.is_empty()).map(Regex::new) {
        None => None,
        Some(Ok(pattern)) => Some(pattern),
        Some(Err(error)) => return Reply::bad(format!("Invalid re2 regex: {error}")),
    };
    let snapshot = state.shared.snapshot.load_full();
    let mut clusters: Vec<&Arc<Cluster>> = snapshot.clusters.values().collect();
    clusters.retain(|c| filter.as_ref().is_none_or(|f| f.is_match(&c.name)));
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    let resources = state.shared.resources.all(type_url::CLUSTER);
    let by_api = |c: &Cluster| {
        let resource = resources.get(&*c.name);
        resource.is_some_and(|r| r.source != Source::Static)
    };
    match call.get("format") {
        Some("json") => {
            let all: Vec<Value> = clusters.iter().map(|c| status(c, by_api(c))).collect();
            Reply::ok(JSON, pretty(&json!({ "cluster_statuses": all })))
        }
        None | Some("" | "text") => {
            let mut out = String::new();
            clusters.iter().for_each(|c| write_text(&mut out, c, by_api(c)));
            Reply::ok(TEXT, out)
        }
        Some(other) => Reply::bad(format!("usage: /clusters?format=(text|json), not {other}")),
    }
}

/// Counters and gauges of an endpoint, by Envoy's names.
fn host_stats(endpoint: &Endpoint) -> [(&'static str, bool, u64); 9] {
    let state = &endpoint.state;
    [
        ("cx_connect_fail", false, state.connect_failures.load(Relaxed)),
        ("cx_total", false, state.connections_total.load(Relaxed)),
        ("rq_error", false, state.errors.load(Relaxed)),
        ("rq_success", false, state.success.load(Relaxed)),
        ("rq_timeout", false, 0),
        ("rq_total", false, state.total.load(Relaxed)),
        ("cx_active", true, state.connections.load(Relaxed).into()),
        ("rq_active", true, state.active.load(Relaxed).into()),
        ("rq_pending_active", true, 0),
    ]
}

fn locality(endpoint: &Endpoint) -> [&str; 3] {
    let mut parts = endpoint.locality.splitn(3, '/');
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

/// As Envoy writes them: those that are set, one after the other.
fn health(endpoint: &Endpoint) -> String {
    let flags = [
        (endpoint.state.unwell.load(Relaxed), "/failed_active_hc"),
        (endpoint.state.ejected.load(Relaxed), "/failed_outlier_check"),
        (!endpoint.healthy, "/failed_eds_health"),
    ];
    let failed: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    if failed.is_empty() {
        "healthy".to_owned()
    } else {
        failed
    }
}

/// Percentage of the interval that ended; -1 when outlier detection has none.
fn success_rate(endpoint: &Endpoint, of: impl Fn(&HostMonitor) -> &Rate) -> f64 {
    endpoint.state.monitor.get().map_or(-1.0, |m| of(m).last())
}

fn write_text(out: &mut String, cluster: &Cluster, by_api: bool) {
    let name = &cluster.name;
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{name}::{key}::{value}");
    };
    line("observability_name", name);
    let limits = &cluster.limits;
    for (key, value) in [
        ("default_priority::max_connections", limits.max_connections),
        ("default_priority::max_pending_requests", limits.max_pending_requests),
        ("default_priority::max_requests", limits.max_requests),
        ("default_priority::max_retries", limits.max_retries),
    ] {
        line(key, &value);
    }
    line("added_via_api", &by_api);
    if let Discovery::Eds(service) = &cluster.discovery {
        line("eds_service_name", service);
    }
    for endpoint in &cluster.endpoints {
        let address = endpoint.address;
        let mut stats = host_stats(endpoint);
        stats.sort_unstable();
        for (key, _, value) in stats {
            line(&format!("{address}::{key}"), &value);
        }
        let [region, zone, sub_zone] = locality(endpoint);
        let hostname = endpoint.hostname.as_deref().unwrap_or_default();
        for (key, value) in [
            ("hostname", hostname),
            ("health_flags", &health(endpoint)),
            ("weight", &endpoint.weight.to_string()),
            ("region", region),
            ("zone", zone),
            ("sub_zone", sub_zone),
            ("canary", "false"),
            ("priority", &endpoint.priority.to_string()),
            ("success_rate", &success_rate(endpoint, |m| &m.external).to_string()),
            (
                "local_origin_success_rate",
                &success_rate(endpoint, |m| &m.local).to_string(),
            ),
        ] {
            line(&format!("{address}::{key}"), &value);
        }
    }
}

fn status(cluster: &Cluster, by_api: bool) -> Value {
    let hosts: Vec<Value> = cluster.endpoints.iter().map(|e| host(e)).collect();
    let limits = &cluster.limits;
    let thresholds = json!({
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.max_pending_requests,
        "max_requests": limits.max_requests,
        "max_retries": limits.max_retries,
    });
    let mut value = json!({"name": &*cluster.name});
    // Proto3 leaves defaults out, and so do Envoy's readers expect it.
    if by_api {
        value["added_via_api"] = true.into();
    }
    if !hosts.is_empty() {
        value["host_statuses"] = hosts.into();
    }
    value["circuit_breakers"] = json!({ "thresholds": [thresholds] });
    value["observability_name"] = json!(&*cluster.name);
    if let Discovery::Eds(service) = &cluster.discovery {
        value["eds_service_name"] = json!(&**service);
    }
    value
}

fn host(endpoint: &Endpoint) -> Value {
    let stats: Vec<Value> = host_stats(endpoint)
        .into_iter()
        .map(|(name, gauge, value)| {
            let mut stat = Map::new();
            if gauge {
                stat.insert("type".to_owned(), "GAUGE".into());
            }
            if value != 0 {
                stat.insert("value".to_owned(), value.to_string().into());
            }
            stat.insert("name".to_owned(), name.into());
            Value::Object(stat)
        })
        .collect();
    let mut health = json!({"eds_health_status": if endpoint.healthy { "HEALTHY" } else { "UNHEALTHY" }});
    if endpoint.state.ejected.load(Relaxed) {
        health["failed_outlier_check"] = true.into();
    }
    if endpoint.state.unwell.load(Relaxed) {
        health["failed_active_health_check"] = true.into();
    }
    let mut value = json!({
        "address": address(endpoint.address),
        "stats": stats,
        "health_status": health,
        "weight": endpoint.weight,
    });
    if let Some(hostname) = &endpoint.hostname {
        value["hostname"] = json!(&**hostname);
    }
    if endpoint.priority != 0 {
        value["priority"] = endpoint.priority.into();
    }
    for (key, rate) in [
        ("success_rate", success_rate(endpoint, |m| &m.external)),
        ("local_origin_success_rate", success_rate(endpoint, |m| &m.local)),
    ] {
        if rate >= 0.0 {
            value[key] = json!({ "value": rate });
        }
    }
    value["locality"] = locality_json(endpoint);
    value
}

fn locality_json(endpoint: &Endpoint) -> Value {
    let parts = ["region", "zone", "sub_zone"].into_iter().zip(locality(endpoint));
    let fields = parts.filter(|(_, v)| !v.is_empty());
    fields
        .map(|(k, v)| (k.to_owned(), v.into()))
        .collect::<Map<_, _>>()
        .into()
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A `ClusterLoadAssignment` of the endpoints in force.
pub(super) fn load_assignment(cluster: &Cluster) -> Map<String, Value> {
    let mut groups: Vec<Value> = Vec::new();
    let mut last = None;
    for endpoint in &cluster.endpoints {
        let group = (endpoint.priority, &endpoint.locality);
        if last != Some(group) {
            let mut value = json!({"locality": locality_json(endpoint), "lb_endpoints": []});
            if endpoint.priority != 0 {
                value["priority"] = endpoint.priority.into();
            }
            groups.push(value);
            last = Some(group);
        }
        let mut inner = json!({"address": address(endpoint.address), "health_check_config": {}});
        if let Some(hostname) = &endpoint.hostname {
            inner["hostname"] = json!(&**hostname);
        }
        let value = json!({
            "endpoint": inner,
            "health_status": if endpoint.healthy { "HEALTHY" } else { "UNHEALTHY" },
            "load_balancing_weight": endpoint.weight,
        });
        if let Some(Value::Array(list)) = groups.last_mut().and_then(|g| g.get_mut("lb_endpoints")) {
            list.push(value);
        }
    }
    let mut fields = Map::new();
    fields.insert("cluster_name".to_owned(), json!(&*cluster.name));
    fields.insert("endpoints".to_owned(), groups.into());
    fields.insert("policy".to_owned(), json!({"overprovisioning_factor": 140}));
    fields
}

pub(super) fn listeners(call: &Call, state: &State) -> Reply {
    // Sockets by listener; a listener without a socket of its own (reached by original destination) has none.
    let mut all: Vec<(String, Vec<SocketAddr>)> = Vec::new();
    for bound in state.shared.listeners.bound() {
        match all.last_mut() {
            Some((name, addresses)) if **name == *bound.listener => addresses.push(bound.local),
            _ => all.push((bound.listener.to_string(), vec![bound.local])),
        }
    }
    let snapshot = state.shared.snapshot.load_full();
    for listener in snapshot.listeners.values().filter(|l| !l.bind_to_port) {
        all.push((listener.name.to_string(), listener.addresses.clone()));
    }
    all.sort();
    match call.get("format") {
        Some("json") => {
            let one = |(name, addresses): &(String, Vec<SocketAddr>)| {
                let mut value = json!({"name": name});
                if let Some((first, more)) = addresses.split_first() {
                    value["local_address"] = address(*first);
                    if !more.is_empty() {
                        value["additional_local_addresses"] = more.iter().map(|a| address(*a)).collect();
                    }
                }
                value
            };
            let all: Vec<Value> = all.iter().map(one).collect();
            Reply::ok(JSON, pretty(&json!({ "listener_statuses": all })))
        }
        None | Some("" | "text") => {
            let mut out = String::new();
            for (name, addresses) in &all {
                for address in addresses {
                    let _ = writeln!(out, "{name}::{address}");
                }
            }
            Reply::ok(TEXT, out)
        }
        Some(other) => Reply::bad(format!("usage: /listeners?format=(text|json), not {other}")),
    }
}
