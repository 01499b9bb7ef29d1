//! `/`, `/help`, `/server_info`, `/memory`, `/ready`.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use http::StatusCode;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::pb::envoy::admin::v3::{CommandLineOptions, ServerInfo, server_info};
use mesh_api::envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use mesh_api::envoy::pb::envoy::config::core::v3::Node;
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
    let uptime = mesh_api::envoy::duration(std::time::Duration::from_secs(state.shared.started.elapsed().as_secs()));
    let flags = &state.options.command_line;
    let node = state
        .shared
        .resources
        .bootstrap()
        .and_then(|bytes| Bootstrap::decode(&*bytes).ok())
        .and_then(|b| b.node)
        .unwrap_or_else(|| Node {
            id: state.shared.node.id.clone(),
            cluster: state.shared.node.cluster.clone(),
            ..Node::default()
        });
    let server = server_info::State::from_str_name(server_state(state)).unwrap_or(server_info::State::Initializing);
    let info = ServerInfo {
        version: version(),
        state: server.into(),
        uptime_current_epoch: Some(uptime),
        uptime_all_epochs: Some(uptime),
        hot_restart_version: "disabled".to_owned(),
        command_line_options: Some(CommandLineOptions {
            concurrency: flags.concurrency,
            config_path: flags
                .config_path
                .as_ref()
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            log_level: flags.log_level.clone(),
            drain_time: Some(mesh_api::envoy::duration(std::time::Duration::from_secs(
                flags.drain_time_s,
            ))),
            disable_hot_restart: true,
            ..CommandLineOptions::default()
        }),
        node: Some(node),
        ..ServerInfo::default()
    };
    match Json::new().to_value(&info) {
        Ok(mut value) => {
            // Left out as the default by proto3; tools look for it.
            if let Value::Object(object) = &mut value {
                object.entry("state").or_insert_with(|| json!("LIVE"));
            }
            config_dump::redact(&mut value);
            Reply::ok(JSON, pretty(&value))
        }
        Err(error) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
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
