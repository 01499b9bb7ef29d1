//! Copies of requests to other clusters, whose responses nobody waits for.

use std::rc::Rc;

use http_body_util::BodyExt as _;

use super::body::RequestBody;
use super::stream::Stream;
use super::upstream_request::{ActiveRequest, Answered, Like, Outgoing, Upgrade, attempt};
use crate::snapshot::Mirror;
use crate::upstream::{PickContext, chance, pick};

/// Sends a copy on its way.
pub(super) fn send(
    stream: &Rc<Stream>,
    mirror: &Mirror,
    outgoing: &Outgoing,
    body: RequestBody,
    version: http::Version,
    streams: bool,
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
        match attempt(&worker, &cluster, &endpoint, like, &mut outgoing, body).await {
            Ok(Answered { response, lease }) => {
                active.answered(response.status());
                // Read to the end, so that the connection can be used again.
                let mut body = response.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                lease.release();
            }
            Err(failed) => {
                active.failed();
                tracing::debug!(cluster = %cluster.name, "mirrored request failed: {:?}", failed.failure);
            }
        }
    });
}
