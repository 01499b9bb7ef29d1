//! Copies of requests to other clusters, whose responses nobody waits for.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt as _;

use super::body::RequestBody;
use super::routes::without_port;
use super::stream::Stream;
use super::timers::Expired;
use super::upstream_request::{ActiveRequest, Answered, Like, Outgoing, Upgrade, attempt};
use crate::snapshot::Mirror;
use crate::upstream::{PickContext, chance, pick};

/// Sends a copy on its way. `limit` is the route's timeout, which holds for the copy's response as a whole.
pub(super) fn send(
    stream: &Rc<Stream>,
    mirror: &Mirror,
    outgoing: &Outgoing,
    body: RequestBody,
    version: http::Version,
    streams: bool,
    limit: Option<Duration>,
) {
    if !chance(mirror.fraction) || outgoing.upgrade != Upgrade::No {
        return;
    }
    let Some(cluster) = stream.snapshot.clusters.get(&mirror.cluster).cloned() else {
        tracing::debug!(cluster = %mirror.cluster, "no such cluster to mirror to");
        return;
    };
    // The stream itself is not held: the request's books close without this copy.
    let worker = stream.conn.worker.clone();
    let manager = stream.manager.clone();
    let destination = stream.conn.info.destination;
    let mut outgoing = outgoing.clone();
    if !mirror.keep_host {
        mark_shadow(&mut outgoing.headers);
    }
    tokio::task::spawn_local(async move {
        let context = PickContext {
            original_dst: Some(destination),
            ..PickContext::default()
        };
        let Some(endpoint) = pick(&cluster, &worker, context) else {
            return;
        };
        let Some(active) = ActiveRequest::start(&cluster, &endpoint) else {
            return;
        };
        let like = Like {
            version,
            filters: &manager.filters,
            streams,
            keep: false,
        };
        let copying = async {
            match attempt(&worker, &cluster, &endpoint, like, &mut outgoing, body).await {
                Ok(Answered { response, lease }) => {
                    active.answered(response.status());
                    // Read to the end, so that the connection can be used again.
                    let mut body = response.into_body();
                    while let Some(frame) = body.frame().await {
                        if frame.is_err() {
                            return;
                        }
                    }
                    lease.release();
                }
                Err(failed) => {
                    active.failed();
                    tracing::debug!(cluster = %cluster.name, "mirrored request failed: {:?}", failed.failure);
                }
            }
        };
        match limit {
            None => copying.await,
            Some(limit) => {
                if tokio::time::timeout(limit, copying).await.is_err() {
                    active.timed_out(Expired::Request);
                }
            }
        }
    });
}

/// Envoy's mark on copies: `host:80` becomes `host-shadow:80`.
fn mark_shadow(headers: &mut HeaderMap) {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else {
        return;
    };
    let name = without_port(host);
    let port = host.get(name.len()..).unwrap_or_default();
    if let Ok(marked) = HeaderValue::try_from(format!("{name}-shadow{port}")) {
        headers.insert(header::HOST, marked);
    }
}
