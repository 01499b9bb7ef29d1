//! Port 15014: metrics, readiness, and pages that show what the control plane knows.
//!
//! The pages have Istio's names and the fields by which istioctl and Kiali read them, with more of our own beside:
//! [`syncz`], [`dump`] (`config_dump`, `ndsz`), [`registry`] (`registryz`, `endpointz`), [`objects`] (`configz`, `sourcez`).
//! [`pages`] finds them, for whom they are open ([`viewer`]); [`xds`] gives them to tools that ask over discovery.

mod dump;
mod objects;
mod pages;
mod registry;
mod syncz;
mod viewer;
mod xds;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use anyhow::Result;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::ca::authority::Authority;
use super::ca::caller::Callers;
use crate::inject;
use pages::Page;
pub(super) use pages::Pages;
use viewer::Viewer;

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

pub(super) async fn serve(
    listener: TcpListener,
    pages: Pages,
    callers: Callers,
    authority: &Authority,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let end = authority.not_after().duration_since(UNIX_EPOCH).unwrap_or_default();
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
        let (pages, callers) = (pages.clone(), callers.clone());
        tokio::spawn(async move {
            let (pages, callers) = (&pages, &callers);
            let service =
                service_fn(|request| async move { Ok::<_, Infallible>(answer(pages, callers, &request, peer).await) });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%peer, %error, "monitoring connection");
            }
        });
    }
}

async fn answer(
    pages: &Pages,
    callers: &Callers,
    request: &Request<Incoming>,
    peer: SocketAddr,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return respond(Page::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered here\n",
        ));
    }
    let path = request.uri().path();
    if path == "/metrics" {
        let handle = METRICS.get().and_then(Option::as_ref);
        return respond(Page {
            status: StatusCode::OK,
            kind: "text/plain; version=0.0.4",
            body: handle.map(PrometheusHandle::render).unwrap_or_default(),
        });
    }
    let viewer = if path.starts_with("/debug") {
        match viewer(pages, callers, request, peer).await {
            Ok(viewer) => viewer,
            Err(refusal) => return respond(Page::text(StatusCode::UNAUTHORIZED, format!("{refusal}\n"))),
        }
    } else {
        // What is left is for everybody.
        Viewer::Everything
    };
    respond(pages.get(path, request.uri().query().unwrap_or_default(), &viewer))
}

/// Who asks: proven by a token, or by being on this machine.
async fn viewer(
    pages: &Pages,
    callers: &Callers,
    request: &Request<Incoming>,
    peer: SocketAddr,
) -> Result<Viewer, String> {
    let mut asked = tonic::Request::new(());
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let value = value.to_str().ok().and_then(|text| text.parse().ok());
        let value = value.ok_or("the authorization header is no text")?;
        asked.metadata_mut().insert("authorization", value);
    }
    let caller = callers
        .prove(&asked)
        .await
        .map_err(|status| status.message().to_owned())?;
    Viewer::of(caller.as_ref(), Some(peer), &pages.home)
}

fn respond(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(page.body));
    *response.status_mut() = page.status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(page.kind));
    response
}
