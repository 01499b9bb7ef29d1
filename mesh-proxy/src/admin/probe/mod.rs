//! Probes of the application. The kubelet is no client of the mesh, so the injector points its probes at the agent
//! (`/app-health/CONTAINER/readyz`, `/app-lifecycle/CONTAINER/prestopz`) and tells the agent by `ISTIO_KUBE_APP_PROBERS` what
//! to ask the application ([`ask`]).

mod ask;
mod grpc;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::server::{Call, Reply};

/// Kubernetes' default of `timeoutSeconds`.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A hook may take as long as the pod's grace period, which the agent does not know; the kubelet hangs up when it is over.
const HOOK_TIMEOUT: Duration = Duration::from_secs(3600);
/// What the injector's paths end with.
const ENDS: [(&str, &[&str]); 2] = [
    ("/app-health/", &["readyz", "livez", "startupz"]),
    ("/app-lifecycle/", &["prestopz", "poststartz"]),
];

/// What the kubelet may have asked, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppProbes {
    probes: BTreeMap<String, Probe>,
    /// Where the application is: the pod's address as for the kubelet, or loopback.
    target: IpAddr,
}

impl Default for AppProbes {
    fn default() -> Self {
        AppProbes {
            probes: BTreeMap::new(),
            target: Ipv4Addr::LOCALHOST.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Probe {
    action: Action,
    port: u16,
    timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Http {
        tls: bool,
        /// With its query.
        path: String,
        headers: Vec<(HeaderName, HeaderValue)>,
    },
    Tcp,
    Grpc {
        service: String,
    },
}

/// A probe as the injector writes it: Kubernetes' fields. What says when to ask is the kubelet's business.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    timeout_seconds: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: Value,
    #[serde(default)]
    host: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Debug, Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct TcpSocket {
    port: Value,
    #[serde(default)]
    host: String,
}

#[derive(Debug, Deserialize)]
struct Grpc {
    port: Value,
    service: Option<String>,
}

impl AppProbes {
    /// Reads `ISTIO_KUBE_APP_PROBERS`. What is of no effect becomes a warning.
    ///
    /// # Errors
    /// What cannot be used, with its path: a probe that is left out would make the kubelet end the application.
    pub fn parse(text: &str, target: IpAddr, warnings: &mut Vec<String>) -> Result<Self, Vec<String>> {
        const VARIABLE: &str = "ISTIO_KUBE_APP_PROBERS";
        let written: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|e| vec![format!("{VARIABLE}: no JSON object: {e}")])?;
        let (mut probes, mut errors) = (BTreeMap::new(), Vec::new());
        for (path, value) in written {
            let read = Written::deserialize(value).map_err(|e| e.to_string());
            match read.and_then(|written| probe(&path, written, target, warnings)) {
                Ok(probe) => {
                    probes.insert(path, probe);
                }
                Err(e) => errors.push(format!("{VARIABLE}: {path}: {e}")),
            }
        }
        if errors.is_empty() {
            Ok(AppProbes { probes, target })
        } else {
            Err(errors)
        }
    }

    /// Asks the application as the probe at the call's path says.
    pub(super) async fn answer(&self, call: &Call) -> Reply {
        let Some(probe) = self.probes.get(&call.path) else {
            let there: Vec<&str> = self.probes.keys().map(String::as_str).collect();
            let there = if there.is_empty() {
                "none".to_owned()
            } else {
                there.join(", ")
            };
            let text = format!("no probe was written for {}; there are: {there}\n", call.path);
            return Reply::text(StatusCode::NOT_FOUND, text);
        };
        let address = SocketAddr::new(self.target, probe.port);
        let asked = match &probe.action {
            Action::Http { .. } => {
                tokio::time::timeout(probe.timeout, ask::http(&probe.action, address, &call.headers)).await
            }
            Action::Tcp => tokio::time::timeout(probe.timeout, ask::tcp(address)).await,
            Action::Grpc { service } => tokio::time::timeout(probe.timeout, grpc::check(address, service)).await,
        };
        let why = match asked {
            Ok(Ok(reply)) => return reply,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {:?}", probe.timeout),
        };
        tracing::debug!(path = call.path, %address, "probe of the application: {why}");
        let text = format!("the application at {address}: {why}\n");
        Reply::text(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

fn probe(path: &str, written: Written, target: IpAddr, warnings: &mut Vec<String>) -> Result<Probe, String> {
    let known = ENDS.iter().find_map(|(start, ends)| {
        let (container, end) = path.strip_prefix(start)?.split_once('/')?;
        (!container.is_empty() && ends.contains(&end)).then_some(*start)
    });
    let Some(kind) = known else {
        return Err("expected a path such as /app-health/CONTAINER/readyz".to_owned());
    };
    let timeout = match written.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        Some(seconds) if seconds < 0 => return Err(format!("timeoutSeconds: {seconds} is no time")),
        _ if kind == "/app-lifecycle/" => HOOK_TIMEOUT,
        _ => PROBE_TIMEOUT,
    };
    let mut here = |host: &str| {
        if !host.is_empty() && host != "localhost" && host.parse() != Ok(target) {
            warnings.push(format!(
                "ISTIO_KUBE_APP_PROBERS: {path}: host {host:?} has no effect, as in Istio: the agent asks its own pod; \
                 set the annotation sidecar.istio.io/rewriteAppHTTPProbers: \"false\" to let the kubelet ask"
            ));
        }
    };
    let (action, port) = match (written.http_get, written.tcp_socket, written.grpc) {
        (Some(get), None, None) => {
            here(&get.host);
            (http_action(&get)?, get.port)
        }
        (None, Some(socket), None) => {
            here(&socket.host);
            (Action::Tcp, socket.port)
        }
        (None, None, Some(grpc)) => (
            Action::Grpc {
                service: grpc.service.unwrap_or_default(),
            },
            grpc.port,
        ),
        _ => return Err("expected one of httpGet, tcpSocket and grpc".to_owned()),
    };
    let number = port.as_u64().or_else(|| port.as_str()?.parse().ok());
    match number.and_then(|n| u16::try_from(n).ok()) {
        Some(port @ 1..) => Ok(Probe { action, port, timeout }),
        _ => Err(format!("port: {port} is no port number")),
    }
}

fn http_action(get: &HttpGet) -> Result<Action, String> {
    let tls = match get.scheme.as_str() {
        "" | "HTTP" | "http" => false,
        "HTTPS" | "https" => true,
        other => return Err(format!("httpGet.scheme: expected HTTP or HTTPS, found {other:?}")),
    };
    let mut headers = Vec::new();
    for Header { name, value } in &get.http_headers {
        // Kubernetes takes HTTP/2's name for it too.
        let written = if name == ":authority" { "host" } else { name };
        let bad = |what| format!("httpGet.httpHeaders: {name}: {what}");
        headers.push((
            HeaderName::from_bytes(written.as_bytes()).map_err(|_| bad("no name of a header"))?,
            HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad("no value of a header"))?,
        ));
    }
    let slash = if get.path.starts_with('/') { "" } else { "/" };
    let path = escape(&format!("{slash}{}", get.path));
    if let Err(e) = path.parse::<http::uri::PathAndQuery>() {
        return Err(format!("httpGet.path: {:?}: {e}", get.path));
    }
    Ok(Action::Http { tls, path, headers })
}

/// Kubernetes takes paths with spaces and other scripts.
fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.split('#').next().unwrap_or_default().bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
