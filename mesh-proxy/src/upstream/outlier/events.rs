//! Events of outlier detection: for people in the proxy's log, for programs as Envoy writes them to the file of
//! `cluster_manager.outlier_detection.event_log_path`, one JSON object a line.

use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Kind;
use crate::snapshot::{Cluster, Ejections, Endpoint};
use crate::telemetry::access_log::Sink;

/// There is one such file a process, as the bootstrap names it.
static FILE: OnceLock<Sink> = OnceLock::new();

/// Has events written to this file from now on. Only the first call counts.
pub fn log_to(path: &str) {
    FILE.get_or_init(|| Sink::open(path));
}

/// Tells of an ejection, or of one that was not enforced.
pub(super) fn ejected(cluster: &Cluster, endpoint: &Endpoint, kind: Kind, ejections: &Ejections, enforced: bool) {
    let (name, times) = (kind.name(), ejections.count);
    if enforced {
        tracing::info!(cluster = &*cluster.name, endpoint = %endpoint.address, kind = name, times, "outlier detection: ejected");
    } else {
        tracing::debug!(cluster = &*cluster.name, endpoint = %endpoint.address, kind = name, "outlier detection: not enforced");
    }
    if FILE.get().is_some() {
        let mut event = common(cluster, endpoint, ejections, ejections.back);
        event["type"] = kind.name().into();
        event["action"] = "EJECT".into();
        event["enforced"] = enforced.into();
        event[kind.detail()] = json!({});
        write(&event);
    }
}

/// Tells that an endpoint takes traffic again.
pub(super) fn taken_back(cluster: &Cluster, endpoint: &Endpoint, ejections: &Ejections) {
    tracing::info!(
        cluster = &*cluster.name,
        endpoint = %endpoint.address,
        times = ejections.count,
        "outlier detection: takes traffic again"
    );
    if FILE.get().is_some() {
        let mut event = common(cluster, endpoint, ejections, ejections.since);
        event["action"] = "UNEJECT".into();
        write(&event);
    }
}

fn common(cluster: &Cluster, endpoint: &Endpoint, ejections: &Ejections, last: Option<Instant>) -> Value {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let mut event = json!({
        "cluster_name": &*cluster.name,
        "upstream_url": endpoint.address.to_string(),
        "num_ejections": ejections.count,
        "timestamp": format!("{now:.3}"),
    });
    if let Some(last) = last {
        // As protobuf's JSON has 64-bit numbers.
        event["secs_since_last_action"] = last.elapsed().as_secs().to_string().into();
    }
    event
}

fn write(event: &Value) {
    if let Some(file) = FILE.get() {
        file.write(format!("{event}\n"));
    }
}
