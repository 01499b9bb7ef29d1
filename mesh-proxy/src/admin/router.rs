//! Paths of the admin API.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::{Method, StatusCode};

use super::server::{Call, HTML, Reply};
use super::{Command, State, certs, clusters, config_dump, info, logging, stats};

/// What the API offers: path, whether it changes something, what it does.
pub(super) const PAGES: &[(&str, bool, &str)] = &[
    ("/", false, "Admin home page"),
    ("/certs", false, "print certs on machine"),
    ("/clusters", false, "upstream cluster status"),
    ("/config_dump", false, "dump current Envoy configs"),
    ("/drain_listeners", true, "drain listeners"),
    ("/healthcheck/fail", true, "cause the server to fail health checks"),
    ("/healthcheck/ok", true, "cause the server to pass health checks"),
    ("/help", false, "print out list of admin commands"),
    ("/listeners", false, "print listener info"),
    ("/logging", true, "query/change logging levels"),
    ("/memory", false, "print current allocation/heap usage"),
    ("/quitquitquit", true, "exit the server"),
    (
        "/ready",
        false,
        "print server state, return 200 if LIVE, otherwise return 503",
    ),
    ("/reopen_logs", true, "reopen access logs"),
    ("/reset_counters", true, "reset all counters to zero"),
    ("/server_info", false, "print server version/status information"),
    ("/stats", false, "print server stats"),
    ("/stats/prometheus", false, "print server stats in prometheus format"),
];

pub(super) async fn handle(call: &Call, state: &Arc<State>) -> Reply {
    let path = match call.path.as_str() {
        "" => "/",
        path if path.len() > 1 => path.trim_end_matches('/'),
        path => path,
    };
    let Some((_, changes, _)) = PAGES.iter().find(|(page, ..)| *page == path) else {
        let text = format!("invalid path. {}", info::help());
        return Reply::text(StatusCode::NOT_FOUND, text);
    };
    if *changes && call.method != Method::POST {
        let text = format!("Method {} not allowed, POST required.", call.method);
        return Reply::text(StatusCode::METHOD_NOT_ALLOWED, text);
    }
    match path {
        "/" => Reply::ok(HTML, info::home()),
        "/help" => Reply::text(StatusCode::OK, info::help()),
        "/certs" => blocking(state, certs::page).await,
        "/clusters" => clusters::page(call, state),
        "/config_dump" => {
            let query = config_dump::Query::read(call);
            match query {
                Ok(query) => blocking(state, move |state| config_dump::page(&query, state)).await,
                Err(message) => Reply::bad(message),
            }
        }
        "/listeners" => clusters::listeners(call, state),
        "/stats" => stats::page(call, state),
        "/stats/prometheus" => stats::prometheus(call, state),
        "/server_info" => info::server_info(state),
        "/memory" => Reply::ok(super::server::JSON, info::memory()),
        "/ready" => info::ready(state),
        "/logging" => logging::page(call, state),
        "/reset_counters" => {
            state.shared.stats.reset();
            Reply::done()
        }
        "/reopen_logs" => {
            crate::telemetry::access_log::reopen();
            Reply::done()
        }
        "/quitquitquit" => send(state, Command::Quit),
        "/drain_listeners" => send(
            state,
            Command::Drain {
                inbound_only: call.has("inboundonly"),
                graceful: call.has("graceful"),
            },
        ),
        "/healthcheck/fail" => {
            state.told_to_fail.store(true, Relaxed);
            Reply::done()
        }
        "/healthcheck/ok" => {
            state.told_to_fail.store(false, Relaxed);
            Reply::done()
        }
        _ => Reply::text(StatusCode::NOT_FOUND, "listed and not served\n"),
    }
}

pub(super) fn send(state: &State, command: Command) -> Reply {
    if state.options.commands.send(command).is_err() {
        return Reply::text(StatusCode::SERVICE_UNAVAILABLE, "the process is already leaving\n");
    }
    Reply::done()
}

/// Pages that take tens of milliseconds run beside the control thread, which has certificates and xDS to look after.
async fn blocking(state: &Arc<State>, page: impl FnOnce(&State) -> Reply + Send + 'static) -> Reply {
    let state = Arc::clone(state);
    tokio::task::spawn_blocking(move || page(&state))
        .await
        .unwrap_or_else(|error| Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
}
