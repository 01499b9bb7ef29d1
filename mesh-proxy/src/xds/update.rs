//! From responses to the configuration, the same for both protocols.

use mesh_api::envoy::type_url;
use mesh_api::nds::NameTable;
use prost::Message;

use crate::snapshot::build::{Rejection, Update};
use crate::snapshot::config::Config;
use crate::snapshot::resources::{Resource, Source};
use crate::telemetry::stats::Registry;

/// The name of a resource that came without one: field 1 in each of the types that travel over ADS.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// The name that a resource gives itself.
pub(super) fn name_of(bytes: &[u8]) -> String {
    Named::decode(bytes).map(|n| n.name).unwrap_or_default()
}

/// Puts an update in force; `Err` with the text of the refusal that is sent back.
pub(super) fn take(config: &Config, update: Update) -> Result<(), String> {
    let stats = &config.shared.stats;
    let type_url = update.type_url.clone();
    count(stats, &type_url, "update_attempt");
    let rejected = if type_url == type_url::NAME_TABLE {
        take_names(config, &update, Source::Dynamic)
    } else {
        config.apply(update, Source::Dynamic)
    };
    if rejected.is_empty() {
        count(stats, &type_url, "update_success");
        return Ok(());
    }
    count(stats, &type_url, "update_rejected");
    for rejection in &rejected {
        tracing::warn!("refused: {rejection}");
    }
    let lines: Vec<_> = rejected.iter().map(ToString::to_string).collect();
    Err(lines.join("; "))
}

/// The name table is no part of the snapshot: only the DNS proxy reads it.
pub(super) fn take_names(config: &Config, update: &Update, source: Source) -> Vec<Rejection> {
    let mut refused = Vec::new();
    for incoming in &update.set {
        match NameTable::decode(incoming.bytes.as_slice()) {
            Ok(table) => {
                config.set_names(table);
                let resource = Resource {
                    bytes: Some(incoming.bytes.as_slice().into()),
                    version: incoming.version.clone(),
                    source,
                    updated: std::time::SystemTime::now(),
                    rejected: None,
                    warming: false,
                };
                config.shared.resources.set(&update.type_url, &incoming.name, resource);
            }
            Err(e) => refused.push(Rejection {
                type_url: update.type_url.clone(),
                name: incoming.name.clone(),
                path: String::new(),
                message: format!("malformed message: {e}"),
            }),
        }
    }
    refused
}

/// Envoy's statistic of an update, for the types that have one.
fn count(stats: &Registry, type_url: &str, what: &str) {
    let prefix = match type_url {
        type_url::CLUSTER => "cluster_manager.cds",
        type_url::LISTENER => "listener_manager.lds",
        type_url::ROUTE => "http.rds",
        _ => return,
    };
    stats.counter(&format!("{prefix}.{what}")).inc();
}
