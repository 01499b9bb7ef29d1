//! One port for HTTP/1.1, HTTP/2, gRPC and WebSocket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;

use super::{catalog, fake, grpc, httpbin, webapp, websocket};

/// What answers HTTP requests.
pub enum Handler {
    /// fake-service.
    Fake(fake::FakeService),
    /// Catalog.
    Catalog(catalog::Catalog),
    /// Web application.
    Webapp(webapp::Webapp),
    /// Shows requests.
    Httpbin,
}

/// The application.
pub struct App {
    /// Name of the pod, told in the header `x-pod-name`, so that clients can count who answered.
    pub pod: String,
    /// The role.
    pub handler: Handler,
    /// Requests so far, shown on `/metrics` as `sample_requests_total`.
    pub requests: AtomicU64,
}

/// Serves until the future is dropped.
///
/// # Errors
/// When the address is none or cannot be bound.
pub async fn serve(address: &str, app: Arc<App>) -> Result<()> {
    // fake-service takes `:9090` for all addresses.
    let address = if address.starts_with(':') {
        format!("0.0.0.0{address}")
    } else {
        address.to_owned()
    };
    let listener = TcpListener::bind(&address)
        .await
        .with_context(|| format!("LISTEN_ADDR={address}"))?;
    tracing::info!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection(stream, peer, Arc::clone(&app)));
            }
            Err(error) => {
                // Most often too many open files: give connections time to end.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, app: Arc<App>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(answer(&app, peer, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    if let Err(error) = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!("connection of {peer}: {error}");
    }
}

async fn answer(app: &App, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = if grpc::is_grpc(&request) {
        let upstreams = match &app.handler {
            Handler::Fake(service) => service.grpc_upstreams(),
            _ => &[],
        };
        grpc::handle(request, upstreams).await
    } else if path == "/ws" && websocket::is_upgrade(&request) {
        websocket::upgrade(request)
    } else if matches!(path.as_str(), "/health" | "/ready" | "/healthz") {
        text(StatusCode::OK, "OK")
    } else if path == "/metrics" {
        let requests = app.requests.load(Ordering::Relaxed);
        text(
            StatusCode::OK,
            format!("# TYPE sample_requests_total counter\nsample_requests_total {requests}\n"),
        )
    } else {
        app.requests.fetch_add(1, Ordering::Relaxed);
        match &app.handler {
            Handler::Fake(service) => service.handle(request).await,
            Handler::Catalog(catalog) => catalog.handle(request).await,
            Handler::Webapp(webapp) => webapp.handle(request).await,
            Handler::Httpbin => httpbin::handle(peer, request).await,
        }
    };
    if let Ok(pod) = HeaderValue::from_str(&app.pod)
        && !pod.is_empty()
    {
        response.headers_mut().insert("x-pod-name", pod);
    }
    tracing::info!("{peer} {method} {path} {}", response.status().as_u16());
    response
}

/// A body that is there as a whole.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Body::new(Full::new(bytes.into()))
}

/// A plain text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A JSON document.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec_pretty(value) {
        Ok(bytes) => {
            let mut response = Response::new(whole(bytes));
            *response.status_mut() = status;
            let kind = HeaderValue::from_static("application/json; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
