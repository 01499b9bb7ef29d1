//! What webapp's proxy was sent, by its own admin port.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::demo::stage::Stage;
use crate::demo::{Findings, show};

pub(super) fn run(stage: &mut Stage) -> Result<Findings> {
    let mut findings = Findings::default();
    super::canary::two_versions(stage)?;
    let dump = stage
        .admin("webapp", "/config_dump?include_eds")?
        .json()
        .context("the dump is JSON")?;
    let sections = dump["configs"].as_array().context("the dump has sections")?;
    let section = |kind: &str| {
        sections
            .iter()
            .find(|s| s["@type"].as_str().is_some_and(|t| t.ends_with(kind)))
            .cloned()
            .unwrap_or_default()
    };

    let listeners = names(&section(".ListenersConfigDump")["dynamic_listeners"], |l| &l["name"]);
    let clusters = names(&section(".ClustersConfigDump")["dynamic_active_clusters"], |c| {
        &c["cluster"]["name"]
    });
    let routes = names(&section(".RoutesConfigDump")["dynamic_route_configs"], |r| {
        &r["route_config"]["name"]
    });
    let endpoints = names(&section(".EndpointsConfigDump")["dynamic_endpoint_configs"], |e| {
        &e["endpoint_config"]["cluster_name"]
    });
    for (what, found) in [
        ("listeners", &listeners),
        ("routes", &routes),
        ("clusters", &clusters),
        ("endpoints", &endpoints),
    ] {
        show::note(&format!("{what:<10} {:>3}  {}", found.len(), shorten(found)));
    }
    findings.check(
        listeners.iter().any(|l| l == "virtualInbound"),
        "the listener of captured inbound traffic",
    );
    findings.check(
        clusters
            .iter()
            .any(|c| c == "outbound|80|version-v1|catalog.istioinaction.svc.cluster.local"),
        "the cluster of subset version-v1",
    );
    findings.check(routes.iter().any(|r| r == "80"), "the routes of port 80");
    findings.check(!endpoints.is_empty(), "endpoints");

    let stats = stage.metrics("webapp")?.text();
    let requests: f64 = stats
        .lines()
        .filter(|l| l.starts_with("istio_requests_total{") && l.contains("destination_service_name=\"catalog\""))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    show::note(&format!("istio_requests_total from webapp to catalog: {requests}"));
    findings.check(requests > 0.0, "Istio's metrics count the requests to catalog");
    Ok(findings)
}

fn names(list: &Value, name: impl Fn(&Value) -> &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| {
            // Listeners carry their name outside, the others inside; both are read by the caller's function.
            name(item).as_str().map(str::to_owned)
        })
        .collect()
}

fn shorten(names: &[String]) -> String {
    let mut text = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 4 {
        text.push_str(", …");
    }
    text
}
