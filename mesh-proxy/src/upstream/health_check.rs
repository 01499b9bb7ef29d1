//! Active health checks (`Cluster.health_checks`): endpoints are asked whether they are well, by one task each, on the
//! control thread. One that is new counts as unwell until its first check, as in Envoy.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::balance::random;
use super::connect::{BoxedStream, open_for_check};
use super::outlier::health_changed;
use crate::shared::Shared;
use crate::snapshot::{Cluster, Endpoint, HealthCheck, HttpProbe, Probe};

/// The longest answer to `tcp_health_check` that is kept.
const LONGEST: usize = 64 * 1024;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    /// Not well.
    Ill,
    /// Not well, by the endpoint's own word (503): that needs no second check.
    Gone,
    /// No answer in time, or no connection.
    Silent,
}

/// The checks of one endpoint.
struct Running {
    endpoint: Arc<Endpoint>,
    check: Arc<HealthCheck>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows the clusters of the configuration. Runs as long as the proxy.
pub async fn run(shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    let mut running: HashMap<(Arc<str>, SocketAddr), Running> = HashMap::new();
    loop {
        changed.mark_unchanged();
        let snapshot = shared.snapshot.load_full();
        let mut before = std::mem::take(&mut running);
        for cluster in snapshot.clusters.values() {
            let Some(check) = &cluster.health_check else { continue };
            for endpoint in &cluster.endpoints {
                let key = (cluster.name.clone(), endpoint.address);
                let same = |r: &Running| Arc::ptr_eq(&r.endpoint, endpoint) && r.check == *check;
                let one = before.remove(&key).filter(same).unwrap_or_else(|| Running {
                    endpoint: endpoint.clone(),
                    check: check.clone(),
                    task: tokio::spawn(follow(
                        shared.clone(),
                        cluster.name.clone(),
                        endpoint.clone(),
                        check.clone(),
                    )),
                });
                running.insert(key, one);
            }
        }
        drop((before, snapshot));
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Checks one endpoint, again and again.
async fn follow(shared: Arc<Shared>, cluster: Arc<str>, endpoint: Arc<Endpoint>, check: Arc<HealthCheck>) {
    // Failed or good checks in a row, of those that speak against what is known.
    let mut against = 0;
    let mut first = true;
    loop {
        let Some(found) = shared.snapshot.load().clusters.get(&cluster).cloned() else {
            return;
        };
        let asked = tokio::time::timeout(check.timeout, ask(&found, &endpoint, &check.probe));
        let verdict = asked.await.unwrap_or(Verdict::Silent);
        count(&found, verdict);
        let was_well = !endpoint.state.unwell.load(Relaxed);
        let enough = match verdict {
            Verdict::Well if first => 1,
            Verdict::Well => check.healthy_threshold,
            Verdict::Gone => 1,
            Verdict::Ill | Verdict::Silent => check.unhealthy_threshold,
        };
        first = false;
        if was_well == (verdict == Verdict::Well) {
            against = 0;
        } else {
            against += 1;
            if against >= enough {
                against = 0;
                endpoint.state.unwell.store(was_well, Relaxed);
                tracing::info!(
                    cluster = %cluster, endpoint = %endpoint.address,
                    "health check: the endpoint is {}", if was_well { "unhealthy" } else { "healthy" }
                );
                health_changed(&found);
            }
        }
        set_healthy(&found);
        let pause = pause(&found, &endpoint, &check);
        drop(found);
        tokio::time::sleep(pause).await;
    }
}

fn pause(cluster: &Cluster, endpoint: &Endpoint, check: &HealthCheck) -> Duration {
    let time = if cluster.stats.upstream_cx_total.get() == 0 {
        check.no_traffic_interval
    } else if endpoint.state.unwell.load(Relaxed) {
        check.unhealthy_interval
    } else {
        check.interval
    };
    time + check.jitter.mul_f64(f64::from(random(1000)) / 1000.0)
}

fn count(cluster: &Cluster, verdict: Verdict) {
    let cells = cluster.stats.health_check();
    cells.attempt.inc();
    match verdict {
        Verdict::Well => cells.success.inc(),
        Verdict::Ill | Verdict::Gone => cells.failure.inc(),
        Verdict::Silent => {
            cells.failure.inc();
            cells.network_failure.inc();
        }
    }
}

fn set_healthy(cluster: &Cluster) {
    let well = cluster.endpoints.iter().filter(|e| !e.state.unwell.load(Relaxed));
    let well = i64::try_from(well.count()).unwrap_or(i64::MAX);
    cluster.stats.health_check().healthy.set(well);
}

async fn ask(cluster: &Cluster, endpoint: &Endpoint, probe: &Probe) -> Verdict {
    let stream = match open_for_check(cluster, endpoint).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(cluster = %cluster.name, "health check: {error}");
            return Verdict::Silent;
        }
    };
    match probe {
        Probe::Http(probe) => ask_http(stream, probe).await.unwrap_or(Verdict::Silent),
        Probe::Tcp { send, receive } => match ask_tcp(stream, send, receive).await {
            Ok(true) => Verdict::Well,
            Ok(false) | Err(_) => Verdict::Silent,
        },
    }
}

async fn ask_http(stream: BoxedStream, probe: &HttpProbe) -> Result<Verdict, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = probe.method.clone();
    if let Ok(path) = probe.path.parse() {
        *request.uri_mut() = path;
    }
    *request.headers_mut() = probe.headers.clone();
    let headers = request.headers_mut();
    if let Ok(host) = probe.host.parse() {
        headers.insert(header::HOST, host);
    }
    headers
        .entry(header::USER_AGENT)
        .or_insert(header::HeaderValue::from_static("Envoy/HC"));
    let answer = async {
        let answer = sender.send_request(request).await?;
        Ok::<_, hyper::Error>(answer.status().as_u16())
    };
    // The connection is driven for as long as the answer takes, and closed then.
    let status = tokio::select! {
        status = answer => status?,
        ended = connection => {
            ended?;
            return Ok(Verdict::Silent);
        }
    };
    Ok(match status {
        status if probe.expected.iter().any(|range| range.contains(&status)) => Verdict::Well,
        503 => Verdict::Gone,
        _ => Verdict::Ill,
    })
}

/// Sends, and reads until all that is expected has come, in this order.
async fn ask_tcp(mut stream: BoxedStream, send: &[u8], receive: &[Vec<u8>]) -> std::io::Result<bool> {
    stream.write_all(send).await?;
    stream.flush().await?;
    let mut seen = Vec::new();
    while !holds(&seen, receive) {
        if seen.len() > LONGEST || stream.read_buf(&mut seen).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(mut seen: &[u8], receive: &[Vec<u8>]) -> bool {
    receive.iter().filter(|block| !block.is_empty()).all(|block| {
        let found = seen.windows(block.len()).position(|window| window == block);
        if let Some(at) = found {
            seen = &seen[at + block.len()..];
        }
        found.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_comes_in_order() {
        let blocks = |all: &[&str]| all.iter().map(|b| b.as_bytes().to_vec()).collect::<Vec<_>>();
        assert!(holds(b"+PONG\r\n", &blocks(&["PONG"])));
        assert!(holds(b"a b c", &blocks(&["a", "c"])));
        assert!(!holds(b"c a", &blocks(&["a", "c"])));
        assert!(holds(b"", &[]));
    }
}
