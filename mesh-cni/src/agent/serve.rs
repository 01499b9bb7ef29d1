//! Pages of the node agent: health on port 8000, metrics on port 15014.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at one time on one port.
const MAX_CONNECTIONS: usize = 64;

/// What the pages show.
#[derive(Debug, Default)]
pub struct Status {
    /// The plugin is in place.
    pub installed: AtomicBool,
    /// How often it was put there, or back.
    pub installs: AtomicU64,
    /// How often that failed.
    pub failures: AtomicU64,
    /// Pods that were mended.
    pub repaired: AtomicU64,
    /// Attempts that failed.
    pub repair_failures: AtomicU64,
}

impl Status {
    /// In Prometheus' text format.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "# TYPE istio_cni_install_ready gauge");
        let _ = writeln!(
            out,
            "istio_cni_install_ready {}",
            u8::from(self.installed.load(Relaxed))
        );
        let counters = [
            ("istio_cni_installs_total", "SUCCESS", &self.installs),
            ("istio_cni_installs_total", "INSTALL_FAILED", &self.failures),
            ("istio_cni_repair_pods_repaired_total", "SUCCESS", &self.repaired),
            ("istio_cni_repair_pods_repaired_total", "FAIL", &self.repair_failures),
        ];
        let mut last = "";
        for (name, result, value) in counters {
            if name != last {
                let _ = writeln!(out, "# TYPE {name} counter");
                last = name;
            }
            let _ = writeln!(out, "{name}{{result=\"{result}\"}} {}", value.load(Relaxed));
        }
        out
    }

    fn answer(&self, path: &str) -> (StatusCode, String) {
        match path {
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if self.installed.load(Relaxed) => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the plugin is not in place; see the log\n".to_owned(),
            ),
            "/metrics" => (StatusCode::OK, self.metrics()),
            _ => (
                StatusCode::NOT_FOUND,
                "there are /healthz, /readyz, /metrics\n".to_owned(),
            ),
        }
    }
}

/// Opens a port and serves all pages on it.
///
/// # Errors
/// When the port is not free.
pub(super) async fn start(address: SocketAddr, status: Arc<Status>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let Ok((socket, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            };
            let status = status.clone();
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let (code, text) = status.answer(request.uri().path());
                    let mut response = Response::new(Full::new(Bytes::from(text)));
                    *response.status_mut() = code;
                    async { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(std::time::Duration::from_secs(10))
                    .serve_connection(TokioIo::new(socket), service);
                let _ = connection.await;
                drop(slot);
            });
        }
    });
    Ok(bound)
}
