//! Metrics of port 15020: the proxy's, the agent's, and the application's own.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{AppMetrics, State, certs, stats};
use crate::telemetry::prometheus::TagStyle;
use crate::telemetry::stats::Counter;

/// For the application to answer; Prometheus itself waits 10 s by default.
const TIMEOUT: Duration = Duration::from_secs(8);
/// More text than this is not taken from the application.
const MAX_BYTES: usize = 16 << 20;

/// What the agent counts of its own work.
#[derive(Debug, Default)]
pub(super) struct Counters {
    scrapes: Counter,
    app_failures: Counter,
}

/// All three. The application's part is missing when it does not answer; ours never is.
pub(super) async fn merged(state: &State) -> String {
    state.scrapes.scrapes.inc();
    let app = match &state.options.app_metrics {
        Some(app) => match tokio::time::timeout(TIMEOUT, fetch(app)).await {
            Ok(Ok(text)) => Some(text),
            Ok(Err(error)) => failed(state, app, &format!("{error:#}")),
            Err(_) => failed(state, app, &format!("no answer within {} s", TIMEOUT.as_secs())),
        },
        None => None,
    };
    let mut out = stats::everything(state, TagStyle::Istio);
    agent(&mut out, state);
    if let Some(app) = app {
        // The end mark of the newer format would end the whole page.
        out.push_str(app.trim_end().trim_end_matches("# EOF"));
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

fn failed(state: &State, app: &AppMetrics, error: &str) -> Option<String> {
    state.scrapes.app_failures.inc();
    tracing::debug!(
        port = app.port,
        path = app.path,
        error,
        "the application's metrics are missing"
    );
    None
}

fn agent(out: &mut String, state: &State) {
    let _ = writeln!(out, "# TYPE istio_agent_scrapes_total counter");
    let _ = writeln!(out, "istio_agent_scrapes_total {}", state.scrapes.scrapes.get());
    let _ = writeln!(out, "# TYPE istio_agent_scrape_failures_total counter");
    let failures = state.scrapes.app_failures.get();
    let _ = writeln!(
        out,
        "istio_agent_scrape_failures_total{{type=\"application\"}} {failures}"
    );
    let expiry = certs::expiry_seconds(state);
    if !expiry.is_empty() {
        let _ = writeln!(out, "# TYPE istio_agent_cert_expiry_seconds gauge");
    }
    for (name, seconds) in expiry {
        let _ = writeln!(
            out,
            "istio_agent_cert_expiry_seconds{{resource_name=\"{name}\"}} {seconds}"
        );
    }
}

async fn fetch(app: &AppMetrics) -> anyhow::Result<String> {
    // By loopback, which capture leaves alone.
    let socket = TcpStream::connect(("127.0.0.1", app.port)).await.context("connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let path = if app.path.starts_with('/') {
        app.path.clone()
    } else {
        format!("/{}", app.path)
    };
    let request = Request::get(path)
        .header(HOST, format!("127.0.0.1:{}", app.port))
        .header(USER_AGENT, "ferromesh-agent")
        // Only the older text format can be put under another page.
        .header(ACCEPT, "text/plain;version=0.0.4;q=1,*/*;q=0.1")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        bail!("status {}", response.status());
    }
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
    connection.abort();
    match body {
        Ok(body) => Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
        Err(error) => bail!("body: {error}"),
    }
}
