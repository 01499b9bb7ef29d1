//! Port 15014: metrics, readiness, and pages that show what the control plane knows.

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
use mesh_api::envoy::type_url;
use mesh_api::nds::NameTable;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::ads::hub::Connection;
use super::ads::resources::{Resources, short_name};
use super::ca::authority::Authority;
use super::model::Model;
use crate::inject;
use crate::source::object_name;

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
/debug/sourcez                    files read, by SHA-256, and the snapshot that holds them
/debug/configz                    objects in force, and where they stand
/debug/findingsz                  what is wrong with objects, a line each
/debug/config_dump?proxyID=POD.NS what that proxy should hold
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
            let all: Vec<Value> = pages.model.hub().connections().iter().map(|c| sync(c)).collect();
            page(&Value::Array(all))
        }
        "/debug/sourcez" => page(&files(&pages.model)),
        "/debug/configz" => page(&objects(&pages.model)),
        "/debug/findingsz" => {
            let present = pages.model.present();
            let all = present.findings();
            text(StatusCode::OK, all.iter().map(|f| format!("{f}\n")).collect::<String>())
        }
        "/debug/config_dump" => {
            let query = request.uri().query().unwrap_or_default();
            let wanted = query.split('&').find_map(|p| p.strip_prefix("proxyID="));
            dump(&pages.model, &unescape(wanted.unwrap_or_default()))
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

fn sync(connection: &Connection) -> Value {
    let status = connection.status.lock();
    let types = [
        type_url::CLUSTER,
        type_url::LISTENER,
        type_url::ENDPOINT,
        type_url::ROUTE,
        type_url::SECRET,
        type_url::NAME_TABLE,
    ];
    let types: serde_json::Map<String, Value> = types
        .into_iter()
        .map(|t| {
            let (held, refused, pending) = status.types.get(t).cloned().unwrap_or_default();
            let state = match (status.types.contains_key(t), refused.is_empty(), pending) {
                (false, ..) => "NOT SENT",
                (_, false, _) => "ERROR",
                (_, _, true) => "STALE",
                _ => "SYNCED",
            };
            let error = status.errors.get(t);
            let one = json!({"state": state, "resources": held, "refused": refused, "error": error});
            (short_name(t).to_owned(), one)
        })
        .collect();
    let since = connection
        .since
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    json!({
        "proxy": short_id(connection),
        "node": connection.proxy.id.to_string(),
        "peer": connection.peer,
        "identity": connection.identity.as_ref().map(ToString::to_string),
        "form": connection.form,
        "connected_at": since,
        "snapshot_sent": status.sent,
        "snapshot_taken": status.settled,
        "xds": types,
    })
}

/// Whoever has changed a file waits here until it is read, and then in `/debug/syncz` until `snapshot_taken` of each proxy
/// is this number or a later one.
fn files(model: &Model) -> Value {
    // In this order: the number may be later than the files, never earlier.
    let present = model.present();
    let number = model.hub().number();
    let all = present.loaded.files.iter();
    let all: serde_json::Map<String, Value> = all
        .map(|(path, sha256)| (path.display().to_string(), json!(&**sha256)))
        .collect();
    json!({"snapshot": number, "files": all})
}

fn objects(model: &Model) -> Value {
    let present = model.present();
    let one = |object: &Arc<mesh_api::istio::AnyObject>| {
        let name = object_name(object.kind().as_str(), object.namespace(), object.name());
        let place = present
            .loaded
            .places
            .diagnostic(&name, "", "", crate::source::Severity::Warning);
        json!({
            "kind": object.kind().as_str(),
            "apiVersion": object.kind().api_version(),
            "namespace": object.namespace(),
            "name": object.name(),
            "file": place.file.display().to_string(),
            "line": place.line,
        })
    };
    Value::Array(present.loaded.objects.iter().map(one).collect())
}

fn dump(model: &Model, proxy: &str) -> Response<Full<Bytes>> {
    let connections = model.hub().connections();
    let found = connections
        .iter()
        .find(|c| !proxy.is_empty() && (short_id(c) == proxy || c.proxy.id.to_string() == proxy));
    match found {
        Some(connection) => {
            let resources = connection.status.lock().resources.clone();
            page(&resources_as_json(model, &resources))
        }
        None => {
            let known: Vec<String> = connections.iter().map(|c| short_id(c)).collect();
            let text_ = format!(
                "no proxy {proxy:?} is connected; ?proxyID= one of: {}\n",
                known.join(", ")
            );
            text(StatusCode::NOT_FOUND, text_)
        }
    }
}

fn resources_as_json(model: &Model, resources: &Resources) -> Value {
    let mut out = serde_json::Map::new();
    for (type_url, by_name) in resources.types() {
        let one = |(name, resource): (&super::ads::resources::Name, &super::ads::resources::Resource)| {
            let body = match type_url {
                // Keys are nobody's business.
                type_url::SECRET => json!({"name": &**name, "redacted": true}),
                type_url::NAME_TABLE => names(&resource.body.value),
                _ => match model.json().bytes_to_value(type_url, &resource.body.value) {
                    Ok(value) => value,
                    Err(error) => json!({"name": &**name, "error": error.to_string()}),
                },
            };
            json!({"name": &**name, "version": &*resource.version, "resource": body})
        };
        out.insert(
            short_name(type_url).to_owned(),
            Value::Array(by_name.iter().map(one).collect()),
        );
    }
    Value::Object(out)
}

fn names(bytes: &[u8]) -> Value {
    let table = NameTable::decode(bytes).unwrap_or_default();
    let one = |(host, info): (String, mesh_api::nds::name_table::NameInfo)| {
        (
            host,
            json!({"ips": info.ips, "registry": info.registry, "namespace": info.namespace}),
        )
    };
    Value::Object(table.table.into_iter().map(one).collect())
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
