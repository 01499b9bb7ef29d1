//! The local rate limit: requests past a token bucket are refused.

use std::rc::Rc;
use std::time::Instant;

use http::HeaderMap;

use super::header_ops;
use super::reply::Local;
use super::stream::Stream;
use crate::snapshot::LocalRateLimit;
use crate::telemetry::ResponseFlags;
use crate::upstream::chance;

/// gRPC's RESOURCE_EXHAUSTED.
const RESOURCE_EXHAUSTED: u16 = 8;

/// The refusal of a request past the limit.
pub(super) fn refusal(stream: &Rc<Stream>, limit: &LocalRateLimit) -> Option<Local> {
    let bucket = limit.bucket.as_ref()?;
    if !chance(limit.enabled) {
        return None;
    }
    count(stream, limit, "enabled");
    if bucket.take(Instant::now()) {
        count(stream, limit, "ok");
        return None;
    }
    count(stream, limit, "rate_limited");
    if !chance(limit.enforced) {
        return None;
    }
    count(stream, limit, "enforced");
    let mut headers = HeaderMap::new();
    header_ops::apply_to_response(&limit.response, &mut headers, stream);
    let mut local = Local::new(
        limit.status,
        "local_rate_limited",
        ResponseFlags::RATE_LIMITED,
        "local_rate_limited",
    );
    local.headers = headers;
    local.grpc_status = limit.resource_exhausted.then_some(RESOURCE_EXHAUSTED);
    Some(local)
}

/// Looked up by name: only routes with a limit pay for it.
fn count(stream: &Stream, limit: &LocalRateLimit, what: &str) {
    let name = format!("{}.http_local_rate_limit.{what}", limit.stat_prefix);
    stream.conn.worker.shared.stats.counter(&name).inc();
}
