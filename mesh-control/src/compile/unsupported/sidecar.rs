//! Sidecars.

use mesh_api::istio::{CaptureMode, Sidecar};

use super::{Use, Warning, below, fields, of_list};

const SIDECAR: &[&str] = &[
    "workloadSelector",
    "egress[].port.number",
    "egress[].port.protocol",
    "egress[].port.name",
    "egress[].bind",
    "egress[].captureMode",
    "egress[].hosts",
    "ingress[].port.number",
    "ingress[].port.protocol",
    "ingress[].port.name",
    "ingress[].bind",
    "ingress[].captureMode",
    "ingress[].defaultEndpoint",
    "outboundTrafficPolicy",
];

/// Limits of connections towards the application.
const POOL: &[&str] = &[
    "tcp",
    "http.http1MaxPendingRequests",
    "http.http2MaxRequests",
    "http.maxRequestsPerConnection",
    "http.maxRetries",
    "http.idleTimeout",
    "http.maxConcurrentStreams",
    "http.http2KeepAlive",
];

pub(super) fn report(name: &str, spec: &Sidecar) -> Vec<Warning> {
    let mut found = fields(name, spec, reads);
    let mut warn = |field: String, message: &str| {
        found.push(Warning {
            object: name.to_owned(),
            field,
            message: message.to_owned(),
        });
    };
    for (index, listener) in spec.egress.iter().enumerate() {
        if listener.bind.starts_with("unix://") {
            warn(
                format!("spec.egress[{index}].bind"),
                "socket files are not implemented, so the listener is left out; write an address and a port",
            );
        } else if listener.port.is_none() && listener.capture_mode == CaptureMode::None {
            warn(
                format!("spec.egress[{index}].captureMode"),
                "NONE is in force for listeners with a port only; connections by this one are captured as by default",
            );
        }
    }
    for (index, listener) in spec.ingress.iter().enumerate() {
        if listener.default_endpoint.starts_with("unix://") {
            warn(
                format!("spec.ingress[{index}].defaultEndpoint"),
                "socket files are not implemented, so the listener is left out; write 127.0.0.1:PORT",
            );
        }
        if !listener.bind.is_empty() && listener.capture_mode != CaptureMode::None {
            warn(
                format!("spec.ingress[{index}].bind"),
                "has no effect on captured connections, which come in at one address; write captureMode: NONE to have the proxy listen there",
            );
        }
    }
    found
}

fn reads(path: &str) -> Use {
    for pool in ["inboundConnectionPool", "ingress[].connectionPool"] {
        if path == pool {
            return Use::Inside;
        }
        if let Some(inside) = below(path, pool) {
            return of_list(POOL, inside);
        }
    }
    of_list(SIDECAR, path)
}
