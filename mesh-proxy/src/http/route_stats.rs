//! Statistics of a route with a `stat_prefix`: `vhost.<virtual host>.route.<prefix>.*`.

use http::StatusCode;

use super::router::Routed;
use super::stream::Stream;

/// Counts one. Looked up by name: only routes that ask for statistics pay for them.
pub(super) fn count(stream: &Stream, routed: Routed<'_>, what: &str) {
    if let Some(prefix) = &routed.route.stat_prefix {
        let name = format!("vhost.{}.route.{prefix}.{what}", routed.host.name);
        stream.conn.worker.shared.stats.counter(&name).inc();
    }
}

/// Counts what the caller gets.
pub(super) fn answered(stream: &Stream, routed: Routed<'_>, status: StatusCode) {
    if routed.route.stat_prefix.is_some() {
        let code = status.as_u16();
        count(stream, routed, "upstream_rq_completed");
        count(stream, routed, &format!("upstream_rq_{}xx", code / 100));
        count(stream, routed, &format!("upstream_rq_{code}"));
    }
}
