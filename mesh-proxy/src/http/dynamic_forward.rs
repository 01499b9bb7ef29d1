//! `envoy.filters.http.dynamic_forward_proxy`: the address of the host that a request names.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};

use super::accept::Inbound;
use super::reply::Local;
use super::stream::Stream;
use crate::dns::{DnsCache, Unresolved};
use crate::snapshot::{Cluster, Discovery, HttpFilter};
use crate::telemetry::ResponseFlags;

/// Looks the host up, where there is the filter with the cluster's cache. The router finds the address in that cache.
///
/// # Errors
/// With Envoy's answer, when there is no address.
pub(super) async fn resolve(
    stream: &Stream,
    cache: &Arc<DnsCache>,
    cluster: &Cluster,
    inbound: &Inbound,
) -> Result<(), Box<Local>> {
    let here = |f: &HttpFilter| matches!(f, HttpFilter::DynamicForward(name) if name == cache.name());
    if !stream.manager.filters.iter().any(here) {
        return Ok(());
    }
    let reply = |status, body: &'static str, flags, details: String| Box::new(Local::new(status, body, flags, details));
    let Some(host) = authority(&inbound.headers) else {
        return Err(reply(
            StatusCode::BAD_REQUEST,
            "Empty host header",
            ResponseFlags::NONE,
            "empty_host_header".to_owned(),
        ));
    };
    let unresolved = match cache.load(host, cluster.default_port()).await {
        Ok(()) => return Ok(()),
        Err(unresolved) => unresolved,
    };
    let (body, flags, details) = match unresolved {
        Unresolved::PendingOverflow => (
            "Dynamic forward proxy pending request overflow",
            ResponseFlags::NONE,
            "dynamic_forward_proxy_pending_request_overflow".to_owned(),
        ),
        Unresolved::HostOverflow => (
            "DNS cache overflow",
            ResponseFlags::NONE,
            "dns_cache_overflow".to_owned(),
        ),
        Unresolved::Failed(details) => (
            "DNS resolution failure",
            ResponseFlags::DNS_RESOLUTION_FAILED,
            details.to_string(),
        ),
    };
    Err(reply(StatusCode::SERVICE_UNAVAILABLE, body, flags, details))
}

/// Where a request goes if the cluster lists no endpoints: by the host that the route has given it. As in Envoy, the cluster
/// looks up what the filter has not; a name that is not found is an endpoint less.
pub(super) async fn destination(cluster: &Cluster, original: SocketAddr, headers: &HeaderMap) -> Option<SocketAddr> {
    let Discovery::Dynamic(cache) = &cluster.discovery else {
        return Some(original);
    };
    let (host, port) = (authority(headers)?, cluster.default_port());
    if let Some(known) = cache.address(host, port) {
        return Some(known);
    }
    Box::pin(cache.load(host, port)).await.ok()?;
    cache.address(host, port)
}

/// The host that a request is for, perhaps with a port.
fn authority(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    (!host.is_empty()).then_some(host)
}
