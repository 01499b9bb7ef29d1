//! `/debug/syncz`: the proxies that are connected, and what they have taken.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use mesh_api::envoy::type_url;
use serde_json::{Map, Value, json};

use super::pages::short_id;
use crate::compile::Proxy;
use crate::serve::ads::hub::{Connection, Status};
use crate::serve::ads::resources::short_name;

/// Configuration of extensions, which Istio serves and we do not.
const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// Where a proxy says nothing of its cluster.
const CLUSTER: &str = "Kubernetes";

/// The types, as Istio calls them in its fields.
pub(super) const TYPES: [(&str, &str); 7] = [
    (type_url::CLUSTER, "cluster"),
    (type_url::LISTENER, "listener"),
    (type_url::ENDPOINT, "endpoint"),
    (type_url::ROUTE, "route"),
    (EXTENSION, "extensionconfig"),
    (type_url::SECRET, ""),
    (type_url::NAME_TABLE, ""),
];

/// An entry for each proxy.
pub(super) fn page(connections: &[Arc<Connection>]) -> Value {
    connections.iter().map(|c| entry(c)).collect()
}

fn entry(connection: &Connection) -> Value {
    let status = connection.status.lock();
    let proxy = &connection.proxy;
    let since = connection.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut entry = json!({
        "proxy": short_id(connection),
        "proxy_type": if proxy.is_gateway() { "router" } else { "sidecar" },
        "cluster_id": cluster(proxy),
        "istio_version": version(proxy),
        "node": proxy.id.to_string(),
        "peer": connection.peer,
        "identity": connection.identity.as_ref().map(ToString::to_string),
        "form": connection.form,
        "connected_at": since.as_secs(),
        "snapshot_sent": status.sent,
        "snapshot_taken": status.settled,
    });
    let mut xds = Map::new();
    for (type_url, word) in TYPES {
        let (state, of_type) = state(&status, type_url);
        if !word.is_empty() && state != "NOT SENT" {
            // Whoever reads these compares them: equal is synced, and what is not there was not sent.
            let sent = status.sent.to_string();
            let taken = if state == "SYNCED" {
                sent.clone()
            } else {
                format!("before {sent}")
            };
            entry[format!("{word}_sent")] = json!(sent);
            entry[format!("{word}_acked")] = json!(taken);
        }
        let key = if type_url == EXTENSION {
            "ecds"
        } else {
            short_name(type_url)
        };
        xds.insert(key.to_owned(), of_type);
    }
    entry["xds"] = Value::Object(xds);
    entry
}

/// The cluster that the proxy says it is in.
pub(super) fn cluster(proxy: &Proxy) -> &str {
    proxy.meta("CLUSTER_ID").unwrap_or(CLUSTER)
}

/// The proxy's version.
pub(super) fn version(proxy: &Proxy) -> &str {
    proxy.meta("ISTIO_VERSION").unwrap_or_default()
}

/// Where a type stands: in a word, and with all that is known.
pub(super) fn state(status: &Status, type_url: &str) -> (&'static str, Value) {
    let (held, refused, pending) = status.types.get(type_url).cloned().unwrap_or_default();
    let state = match (status.types.contains_key(type_url), refused.is_empty(), pending) {
        (false, ..) => "NOT SENT",
        (_, false, _) => "ERROR",
        (_, _, true) => "STALE",
        _ => "SYNCED",
    };
    let error = status.errors.get(type_url);
    let one = json!({"state": state, "resources": held, "refused": refused, "error": error});
    (state, one)
}
