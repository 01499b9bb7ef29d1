//! `/`, `/help`, `/server_info`, `/memory`, `/ready`.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use http::StatusCode;
use mesh_api::envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use mesh_api::envoy::value::from_struct;
use prost::Message;
use serde_json::{Value, json};

use super::json::pretty;
use super::router::PAGES;
use super::server::{JSON, Reply};
use super::{State, config_dump};
use crate::shared::Drain;

pub(super) fn help() -> String {
    let mut out = String::from("admin commands are:\n");
    for (path, changes, text) in PAGES {
        let post = if *changes { " (POST)" } else { "" };
        let _ = writeln!(out, "  {path}{post}: {text}");
    }
    out
}

pub(super) fn home() -> String {
    let mut out = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Ferromesh proxy</title></head><body>\n<h1>Ferromesh proxy</h1>\n<table>\n",
    );
    for (path, changes, text) in PAGES {
        // No buttons: what changes something is done by those who can POST on purpose.
        let link = if *changes {
            format!("POST {path}")
        } else {
            format!("<a href=\"{}\">{path}</a>", path.trim_start_matches('/'))
        };
        let _ = writeln!(out, "<tr><td>{link}</td><td>{text}</td></tr>");
    }
    out.push_str("</table>\n</body></html>\n");
    out
}

/// As Envoy calls it.
pub(super) fn server_state(state: &State) -> &'static str {
    let draining = *state.shared.drain.borrow() != Drain::Running || state.told_to_fail.load(Relaxed);
    if draining {
        "DRAINING"
    } else if state.shared.readiness.missing().is_empty() {
        "LIVE"
    } else {
        "INITIALIZING"
    }
}

pub(super) fn ready(state: &State) -> Reply {
    let text = server_state(state);
    let status = if text == "LIVE" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Reply::text(status, format!("{text}\n"))
}

/// What Envoy calls its version: revision/version/status/build/ssl.
fn version() -> String {
    let build = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("ferromesh/{}/Clean/{build}/AWS-LC", env!("CARGO_PKG_VERSION"))
}

pub(super) fn server_info(state: &State) -> Reply {
    let uptime = format!("{}s", state.shared.started.elapsed().as_secs());
    let flags = &state.options.command_line;
    let cores = || std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let mut info = json!({
        "version": version(),
        "state": server_state(state),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": {
            "concurrency": if flags.concurrency == 0 { cores() } else { flags.concurrency },
            "config_path": flags.config_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
            "log_level": flags.log_level,
            "service_cluster": state.shared.node.cluster,
            "service_node": state.shared.node.id,
            "drain_time": format!("{}s", flags.drain_time_s),
            "mode": "Serve",
            "disable_hot_restart": true,
        },
        "node": node(state),
    });
    config_dump::redact(&mut info);
    Reply::ok(JSON, pretty(&info))
}

/// `Node` by hand: the descriptors that would do it cost more memory than a sidecar idles with, and tools ask often.
fn node(state: &State) -> Value {
    let bootstrap = state.shared.resources.bootstrap();
    let Some(node) = bootstrap.and_then(|bytes| Bootstrap::decode(&*bytes).ok()?.node) else {
        return json!({"id": state.shared.node.id, "cluster": state.shared.node.cluster});
    };
    let mut value = json!({"id": node.id, "cluster": node.cluster});
    if let Some(metadata) = &node.metadata {
        value["metadata"] = from_struct(metadata);
    }
    if let Some(l) = &node.locality {
        value["locality"] = json!({"region": l.region, "zone": l.zone, "sub_zone": l.sub_zone});
    }
    value["user_agent_name"] = json!(node.user_agent_name);
    value
}

/// Resident memory of the process in bytes, 0 when the system does not say.
pub(super) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok());
    kib.unwrap_or_default() * 1024
}

pub(super) fn memory() -> String {
    let bytes = resident_bytes().to_string();
    // The allocator is asked nothing; what the system sees is what counts for a limit.
    pretty(&json!({
        "allocated": bytes,
        "heap_size": bytes,
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": bytes,
    }))
}
