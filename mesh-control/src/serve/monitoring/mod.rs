//! Port 15014: metrics, readiness, and pages that show what the control plane knows.
//!
//! The pages have Istio's names and the fields by which istioctl and Kiali read them, with more of our own beside:
//! [`syncz`], [`dump`] (`config_dump`, `ndsz`), [`registry`] (`registryz`, `endpointz`), [`objects`] (`configz`, `sourcez`).

mod dump;
mod objects;
mod registry;
mod syncz;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use anyhow::Result;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::ads::hub::Connection;
use super::ca::authority::Authority;
use super::model::Model;
use crate::inject;

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Begins to count. Once a process; where the process has a recorder already, `/metrics` here stays empty.
pub fn install_metrics() {
    METRICS.get_or_init(|| {
        let seconds = |name: &str| Matcher::Full(name.to_owned());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(
                seconds("pilot_proxy_convergence_time"),
                &[0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0],
            )
            .and_then(|b| {
                let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
                b.set_buckets_for_metric(seconds("pilot_xds_push_time"), &buckets)?
                    .set_buckets_for_metric(seconds("sidecar_injection_time_seconds"), &buckets)
            });
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        handle
            .inspect_err(|error| warn!(%error, "metrics are counted elsewhere"))
            .ok()
    });
    inject::review::describe_metrics();
    metrics::describe_counter!("pilot_xds_pushes", "Responses sent to proxies, by type of resource.");
    metrics::describe_counter!("pilot_total_xds_rejects", "Resources refused by proxies.");
    metrics::describe_counter!(
        "pilot_xds_expired_nonce",
        "Answers of proxies to responses that were not the last."
    );
    metrics::describe_gauge!("pilot_xds", "Connected proxies.");
    metrics::describe_histogram!(
        "pilot_proxy_convergence_time",
        "Seconds from a change of configuration until a proxy has taken it."
    );
    metrics::describe_histogram!("pilot_xds_push_time", "Seconds to make the resources of one proxy.");
    metrics::describe_counter!("citadel_server_csr_count", "Certificate requests.");
    metrics::describe_counter!("citadel_server_success_cert_issuance_count", "Certificates signed.");
    metrics::describe_counter!(
        "citadel_server_authentication_failure_count",
        "Callers that could not prove themselves."
    );
    metrics::describe_counter!(
        "citadel_server_csr_parsing_err_count",
        "Certificate requests refused for what they say."
    );
    metrics::describe_counter!(
        "citadel_server_csr_sign_err_count",
        "Certificates that could not be signed."
    );
    metrics::describe_gauge!(
        "citadel_server_root_cert_expiry_timestamp",
        "End of the signing certificate, Unix seconds."
    );
}

/// What the pages show.
#[derive(Clone)]
pub(super) struct Pages {
    pub(super) model: Model,
    pub(super) authority: Arc<Authority>,
}

pub(super) async fn serve(listener: TcpListener, pages: Pages, mut stopping: watch::Receiver<bool>) -> Result<()> {
    let end = pages
        .authority
        .not_after()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    metrics::gauge!("citadel_server_root_cert_expiry_timestamp").set(end.as_secs_f64());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&pages, &request, peer);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%peer, %error, "monitoring connection");
            }
        });
    }
}

const PAGES: &str = "\
/metrics                          Prometheus metrics
/ready                            200 when proxies are served
/version                          version of the control plane
/debug/syncz                      connected proxies, and what they have taken
/debug/config_dump?proxyID=POD.NS what that proxy should hold, in the form of Envoy's page of that name
/debug/ndsz?proxyID=POD.NS        names that the DNS server of that proxy answers
/debug/registryz                  services
/debug/endpointz                  endpoints of each port of each service
/debug/configz                    objects in force, and where they stand
/debug/sourcez                    files read, by SHA-256, and the snapshot that holds them
/debug/findingsz                  what is wrong with objects, a line each
";

fn answer(pages: &Pages, request: &Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
    }
    if path.starts_with("/debug") && !peer.ip().to_canonical().is_loopback() {
        return text(
            StatusCode::FORBIDDEN,
            "debug pages are shown on the machine itself only\n",
        );
    }
    match path {
        "/metrics" => {
            let handle = METRICS.get().and_then(Option::as_ref);
            let body = handle.map(PrometheusHandle::render).unwrap_or_default();
            with_type(StatusCode::OK, "text/plain; version=0.0.4", body)
        }
        "/ready" | "/healthz" => text(StatusCode::OK, "ready\n"),
        "/version" => text(StatusCode::OK, concat!(env!("CARGO_PKG_VERSION"), "\n")),
        "/" | "/debug" | "/debug/" | "/debug/list" => text(StatusCode::OK, PAGES),
        "/debug/syncz" => {
            let namespace = asked(request, "namespace");
            page(&syncz::page(&pages.model.hub().connections(), namespace.as_deref()))
        }
        "/debug/config_dump" => match connection(pages, request) {
            Ok(connection) => page(&dump::page(pages.model.json(), &connection)),
            Err(refusal) => text(StatusCode::NOT_FOUND, refusal),
        },
        "/debug/ndsz" => match connection(pages, request) {
            Ok(connection) => page(&dump::names(&connection)),
            Err(refusal) => text(StatusCode::NOT_FOUND, refusal),
        },
        "/debug/registryz" => page(&registry::services(&pages.model.present().store)),
        "/debug/endpointz" => page(&registry::endpoints(&pages.model.present().store)),
        "/debug/configz" => page(&objects::page(&pages.model)),
        "/debug/sourcez" => page(&objects::files(&pages.model)),
        "/debug/findingsz" => {
            let present = pages.model.present();
            let all = present.findings();
            text(StatusCode::OK, all.iter().map(|f| format!("{f}\n")).collect::<String>())
        }
        _ => text(
            StatusCode::NOT_FOUND,
            format!("there is no such page; there are:\n{PAGES}"),
        ),
    }
}

/// `%7E` and the like: node ids hold characters that some clients escape.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn short_id(connection: &Connection) -> String {
    let id = &connection.proxy.id;
    format!("{}.{}", id.pod, id.namespace)
}

/// The value of `key` in the query, unescaped.
fn asked(request: &Request<Incoming>, key: &str) -> Option<String> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    let mut values = pairs.filter_map(|pair| pair.split_once('='));
    values.find(|(name, _)| *name == key).map(|(_, value)| unescape(value))
}

/// The proxy of `proxyID`, by `POD.NAMESPACE` or by its whole node id.
/// Else says which there are.
fn connection(pages: &Pages, request: &Request<Incoming>) -> Result<Arc<Connection>, String> {
    let wanted = asked(request, "proxyID").unwrap_or_default();
    let connections = pages.model.hub().connections();
    let is_it = |c: &&Arc<Connection>| short_id(c) == wanted || c.proxy.id.to_string() == wanted;
    connections.iter().find(is_it).cloned().ok_or_else(|| {
        let known: Vec<String> = connections.iter().map(|c| short_id(c)).collect();
        let known = known.join(", ");
        format!("no proxy {wanted:?} is connected; ?proxyID= one of: {known}\n")
    })
}

fn page(value: &Value) -> Response<Full<Bytes>> {
    let body = serde_json::to_string_pretty(value).unwrap_or_default();
    with_type(StatusCode::OK, "application/json", body)
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
