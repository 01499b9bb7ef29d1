//! Ports 15021 (readiness), 15090 (the proxy's metrics) and 15020 (merged metrics, health, the agent's commands).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::{Method, StatusCode};

use super::server::{Call, Reply};
use super::{Command, Port, State, router, scrape, stats};
use crate::shared::Drain;
use crate::telemetry::prometheus;

pub(super) async fn handle(port: Port, call: &Call, state: &Arc<State>) -> Reply {
    match (port, call.path.as_str()) {
        (Port::Readiness | Port::Status, "/healthz/ready") => ready(state),
        (Port::Metrics, "/stats/prometheus") => {
            Reply::ok(prometheus::CONTENT_TYPE, stats::everything(state, state.style))
        }
        (Port::Status, "/stats/prometheus" | "/metrics") => {
            Reply::ok(prometheus::CONTENT_TYPE, scrape::merged(state).await)
        }
        (Port::Status, "/quitquitquit") => command(call, state, Command::Quit),
        (Port::Status, "/drain") => command(
            call,
            state,
            Command::Drain {
                inbound_only: false,
                graceful: true,
            },
        ),
        (Port::Status, path) if path.starts_with("/app-health/") || path.starts_with("/app-lifecycle/") => {
            state.options.app_probes.answer(call).await
        }
        (port, path) => {
            let there = match port {
                Port::Readiness => "/healthz/ready",
                Port::Metrics => "/stats/prometheus",
                _ => {
                    "/stats/prometheus, /healthz/ready, /app-health/, /app-lifecycle/, /quitquitquit (POST), /drain (POST)"
                }
            };
            Reply::text(
                StatusCode::NOT_FOUND,
                format!("nothing at {path}; this port has {there}\n"),
            )
        }
    }
}

/// The other ports are open to the network; what changes something is for the pod itself.
fn command(call: &Call, state: &State, command: Command) -> Reply {
    if !call.peer.ip().to_canonical().is_loopback() {
        return Reply::text(StatusCode::FORBIDDEN, "only from inside the pod, by loopback\n");
    }
    if call.method != Method::POST {
        let text = format!("Method {} not allowed, POST required.\n", call.method);
        return Reply::text(StatusCode::METHOD_NOT_ALLOWED, text);
    }
    router::send(state, command)
}

fn ready(state: &State) -> Reply {
    let mut reasons: Vec<String> = Vec::new();
    let missing = state.shared.readiness.missing();
    if !missing.is_empty() {
        reasons.push(format!("waiting for {}", missing.join(", ")));
    }
    if state.told_to_fail.load(Relaxed) {
        reasons.push("told to fail by /healthcheck/fail".to_owned());
    }
    if *state.shared.drain.borrow() != Drain::Running {
        reasons.push("draining".to_owned());
    }
    if reasons.is_empty() {
        return Reply::text(StatusCode::OK, "");
    }
    Reply::text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("; ") + "\n")
}
