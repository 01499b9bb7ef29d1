//! Copies of requests to other clusters, whose responses nobody waits for.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt as _;

use super::body::RequestBody;
use super::dynamic_forward;
use super::headers::{self, EXPECTED_TIMEOUT, INTERNAL};
use super::routes::without_port;
use super::stream::Stream;
use super::timers::Expired;
use super::upstream_request::{ActiveRequest, Answered, Like, Outgoing, Upgrade, attempt};
use crate::snapshot::Mirror;
use crate::upstream::outlier::Outcome;
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
    mark_own(&mut outgoing.headers, limit);
    if !mirror.keep_host {
        mark_shadow(&mut outgoing.headers);
    }
    tokio::task::spawn_local(async move {
        let context = PickContext {
            destination: dynamic_forward::destination(&cluster, destination, &outgoing.headers).await,
            ..PickContext::default()
        };
        let Some(endpoint) = pick(&cluster, &worker, context) else {
            return;
        };
        let active = ActiveRequest::start(&cluster, endpoint);
        let like = Like {
            version,
            filters: &manager.filters,
            streams,
            keep: false,
            proxied: None,
        };
        let copying = async {
            match attempt(&worker, &active, like, &mut outgoing, body).await {
                Ok(Answered { response, lease }) => {
                    active.answered(response.status());
                    cluster.stats.answered(response.status());
                    active.observe_answer(&response, false);
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
                    if let Some(outcome) = failed.outcome() {
                        active.observe(outcome);
                    }
                    tracing::debug!(cluster = %cluster.name, "mirrored request failed: {:?}", failed.failure);
                }
            }
        };
        match limit {
            None => copying.await,
            Some(limit) => {
                if tokio::time::timeout(limit, copying).await.is_err() {
                    active.timed_out(Expired::Request);
                    active.observe(Outcome::Timeout);
                }
            }
        }
    });
}

/// Envoy's copies are requests of its own: they come from its address, from inside, with the route's time.
fn mark_own(headers: &mut HeaderMap, limit: Option<Duration>) {
    headers::append_forwarded_for(headers, *headers::LOCAL_ADDRESS);
    headers.insert(INTERNAL.clone(), HeaderValue::from_static("true"));
    if let Some(limit) = limit {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        headers.insert(EXPECTED_TIMEOUT.clone(), headers::number(millis));
    }
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
