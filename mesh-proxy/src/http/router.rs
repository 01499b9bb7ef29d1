//! From a route to a response: cluster, headers, attempts.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};

use super::accept::{Inbound, with_query};
use super::attempts::{Answer, Forwarding, Plan, has};
use super::body::{Kept, Reading, RequestBody};
use super::dynamic_forward;
use super::grpc::MessageCounter;
use super::handle::keep_original_path;
use super::hash_policy::{self, Hashable};
use super::header_ops;
use super::headers::{self, DECORATOR, SERVICE_TIME, Seen};
use super::mirror;
use super::reply::Local;
use super::response_body::{FromUpstream, ResponseBody};
use super::retry::{Failure, Reset};
use super::route_stats;
use super::routes::rewrite_prefix;
use super::stream::Stream;
use super::timers::Timers;
use super::upgrade::{self, Ends};
use super::upstream_request::{Answered, Outgoing, Upgrade};
use crate::snapshot::{
    Direction, Discovery, Endpoint, Forward, HeaderOpsPair, HostRewrite, HttpFilter, LbPolicy, RetryPolicy, Route,
    RouteAction, RouteTable, Target, VirtualHost,
};
use crate::telemetry::{ResponseFlags, peer};
use crate::upstream::random;

/// What is kept of a body for a mirror at least.
const MIRROR_LIMIT: usize = 64 * 1024;

/// The route that a request matched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matched<'a> {
    pub(super) table: &'a RouteTable,
    pub(super) host: &'a VirtualHost,
    pub(super) route: &'a Arc<Route>,
}

/// Where a request was routed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Routed<'a> {
    pub(super) table: &'a RouteTable,
    pub(super) host: &'a VirtualHost,
    pub(super) route: &'a Arc<Route>,
    pub(super) forward: &'a Arc<Forward>,
}

/// Forwards a request to its cluster, and answers with what comes back or why nothing did.
pub(super) async fn forward(stream: &Rc<Stream>, mut inbound: Inbound, routed: Routed<'_>) -> Response<ResponseBody> {
    let Routed { host, forward, .. } = routed;
    let (name, destination, weighted_host) = choose(forward, &inbound);
    stream.note(|r| r.cluster_name.clone_from(&name));
    let snapshot = &stream.snapshot;
    let Some(cluster) = name.as_ref().and_then(|name| snapshot.clusters.get(name)) else {
        stream.stats.no_cluster.inc();
        let local = Local::new(
            forward.cluster_not_found,
            "",
            ResponseFlags::NO_CLUSTER_FOUND,
            "cluster_not_found",
        );
        let mut response = local.into_response(stream, inbound.grpc);
        operate(destination, routed, response.headers_mut(), stream);
        return response;
    };
    stream.note(|r| r.cluster = Some(cluster.clone()));
    if let Discovery::Dynamic(cache) = &cluster.discovery
        && let Err(local) = Box::pin(dynamic_forward::resolve(stream, cache, cluster, &inbound)).await
    {
        let mut response = local.into_response(stream, inbound.grpc);
        operate(destination, routed, response.headers_mut(), stream);
        return response;
    }

    let timers = Timers::of(stream, &mut inbound, forward);
    for ops in operations(destination, routed) {
        header_ops::apply_to_request(&ops.request, &mut inbound.headers, stream);
    }
    rewrite(stream, &mut inbound, routed);
    let host_rewrite = match weighted_host {
        HostRewrite::None => &forward.host_rewrite,
        rewrite => rewrite,
    };
    if let HostRewrite::Literal(host) = host_rewrite {
        headers::rewrite_host(&mut inbound.headers, host.clone());
    }
    if stream.direction() != Direction::Inbound
        && let Some(operation) = &routed.route.operation
    {
        inbound.headers.insert(DECORATOR.clone(), operation.clone());
    }

    // A hash that nobody asks for gives no cookie either.
    let hashed = !forward.hash_policy.is_empty() && matches!(cluster.lb, LbPolicy::Hash(_));
    let (hash, cookies) = if hashed {
        let info = &stream.conn.info;
        let hashable = Hashable {
            headers: &inbound.headers,
            query: inbound.path.query(),
            remote: info.remote,
            local: info.destination,
        };
        hash_policy::evaluate(&forward.hash_policy, hashable)
    } else {
        (None, Vec::new())
    };
    let policy = forward
        .retry
        .as_deref()
        .or(host.retry.as_deref())
        .filter(|p| p.num_retries > 0 || p.per_try_timeout.is_some());
    let streams = !inbound.body.is_end_stream() && inbound.body.size_hint().exact().is_none();
    let plan = plan(stream, inbound.body, policy, forward);
    let mut outgoing = Outgoing {
        method: inbound.method,
        path: inbound.path,
        scheme: inbound.scheme,
        headers: inbound.headers,
        seen: inbound.seen,
        extensions: inbound.extensions,
        upgrade: inbound.upgrade,
    };
    let going = dynamic_forward::destination(cluster, stream.conn.info.destination, &outgoing.headers).await;
    let mut forwarding = Forwarding {
        stream,
        routed,
        cluster,
        going,
        policy,
        destination,
        host_from_endpoint: matches!(host_rewrite, HostRewrite::Auto),
        version: inbound.version,
        grpc: inbound.grpc,
        streams,
        plan,
        timers,
        hedging: forward
            .hedge_on_per_try_timeout
            .unwrap_or(host.hedge_on_per_try_timeout),
        hash,
        cookies,
        upgrading: outgoing.upgrade != Upgrade::No,
        idempotent: outgoing.method.is_idempotent(),
        attempts: 0,
        priorities: Vec::new(),
        excluded: Vec::new(),
        tried: Vec::new(),
    };
    for mirrored in &forward.mirrors {
        let body = match &forwarding.plan {
            Plan::Kept(kept, _) => RequestBody::follow(kept),
            Plan::Empty | Plan::Once(_) => RequestBody::empty(),
        };
        let limit = forwarding.timers.request;
        mirror::send(stream, mirrored, &outgoing, body, inbound.version, streams, limit);
    }
    if forwarding.timers.idle.is_some() {
        stream.watch_activity();
    }
    let upgraded = forwarding.upgrading.then(|| {
        stream.stats.downstream_cx_upgrades_total.inc();
        let key = outgoing.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
        (outgoing.upgrade.clone(), key)
    });
    let response = match forwarding.run(&mut outgoing).await {
        Ok(answer) => {
            cluster.stats.answered(answer.answered.response.status());
            match (upgraded, inbound.on_upgrade) {
                (Some(upgrade), Some(caller)) => forwarding.upgrade(answer, upgrade, caller),
                _ => forwarding.respond(answer),
            }
        }
        Err(_) if stream.caller_left() => return std::future::pending().await,
        Err(failure) => {
            match failure {
                Failure::Timeout => route_stats::count(stream, routed, "upstream_rq_timeout"),
                Failure::Idle => stream.stats.downstream_rq_idle_timeout.inc(),
                Failure::ReceiveTimeout => stream.stats.downstream_rq_timeout.inc(),
                Failure::Duration => stream.stats.downstream_rq_max_duration_reached.inc(),
                _ => {}
            }
            let of_cluster = failure.is_of_cluster();
            let local = failure.into_local(forwarding.attempts > 1);
            if of_cluster {
                cluster.stats.answered(local.status);
            }
            let mut response = local.into_response(stream, inbound.grpc);
            // As in Envoy's router, what the route says of responses holds for those that it makes itself.
            operate(destination, routed, response.headers_mut(), stream);
            response
        }
    };
    route_stats::answered(stream, routed, response.status());
    response
}

/// The answer of a filter in the router's place. Like the router's own it is that of the route: it has the response headers
/// and, for logs and metrics, the cluster.
pub(super) fn refused(
    stream: &Rc<Stream>,
    inbound: &Inbound,
    local: Local,
    to: &Matched<'_>,
) -> Response<ResponseBody> {
    let Matched { table, host, route } = *to;
    let mut response = local.into_response(stream, inbound.grpc);
    if let RouteAction::Forward(forward) = &route.action {
        let destination = note_destination(stream, inbound, forward);
        let routed = Routed {
            table,
            host,
            route,
            forward,
        };
        operate(destination, routed, response.headers_mut(), stream);
    }
    response
}

/// Notes where a request would have gone.
pub(super) fn note_destination<'f>(
    stream: &Stream,
    inbound: &Inbound,
    forward: &'f Forward,
) -> Option<&'f HeaderOpsPair> {
    let (name, destination, _) = choose(forward, inbound);
    stream.note(|r| {
        r.cluster = name
            .as_ref()
            .and_then(|name| stream.snapshot.clusters.get(name))
            .cloned();
        r.cluster_name = name;
    });
    destination
}

/// The route's operations on response headers.
fn operate(destination: Option<&HeaderOpsPair>, routed: Routed<'_>, headers: &mut http::HeaderMap, stream: &Stream) {
    for pair in operations(destination, routed) {
        header_ops::apply_to_response(&pair.response, headers, stream);
    }
}

/// The cluster's name, and what the destination among several says of its own.
fn choose<'f>(
    forward: &'f Forward,
    inbound: &Inbound,
) -> (Option<Arc<str>>, Option<&'f HeaderOpsPair>, &'f HostRewrite) {
    static AS_IT_IS: HostRewrite = HostRewrite::None;
    match &forward.target {
        Target::Cluster(name) => (Some(name.clone()), None, &AS_IT_IS),
        Target::Header(name) => {
            let name = inbound.headers.get(name).and_then(|v| v.to_str().ok()).map(Arc::from);
            (name, None, &AS_IT_IS)
        }
        Target::Weighted { clusters, total } => {
            let mut point = random(*total);
            for destination in clusters {
                if point < destination.weight {
                    return (
                        Some(destination.name.clone()),
                        Some(&destination.headers),
                        &destination.host_rewrite,
                    );
                }
                point -= destination.weight;
            }
            (None, None, &AS_IT_IS)
        }
    }
}

/// Header operations, the most specific first, as Envoy applies them.
fn operations<'a>(
    destination: Option<&'a HeaderOpsPair>,
    routed: Routed<'a>,
) -> impl Iterator<Item = &'a HeaderOpsPair> {
    let Routed { table, host, route, .. } = routed;
    destination
        .into_iter()
        .chain([&route.headers, &host.headers, &table.headers])
}

/// Applies the route's path rewrite.
fn rewrite(stream: &Stream, inbound: &mut Inbound, routed: Routed<'_>) {
    let Routed { route, forward, .. } = routed;
    if inbound.connect {
        return;
    }
    let path = inbound.path.path();
    let changed = if let Some(prefix) = &forward.prefix_rewrite {
        rewrite_prefix(&route.matches.path, path, prefix)
    } else if let Some((regex, to)) = &forward.regex_rewrite {
        regex.replace_all(path, to.as_str()).into_owned()
    } else {
        return;
    };
    // A rewrite that gives no path (a regex's doing) is left out, as the original one is at least valid.
    let Ok(changed) = PathAndQuery::try_from(with_query(changed, inbound.path.query())) else {
        tracing::debug!(route = %route.name, "the rewritten path is none; it stays as it was");
        return;
    };
    keep_original_path(stream, &mut inbound.headers, &inbound.path);
    if stream.logged {
        stream.note(|r| r.uri = http::Uri::from(changed.clone()));
    }
    inbound.path = changed;
}

fn plan(stream: &Stream, body: Incoming, policy: Option<&RetryPolicy>, forward: &Forward) -> Plan {
    if body.is_end_stream() {
        return Plan::Empty;
    }
    // What is kept for another attempt, past which there is none, as in Envoy.
    let limit = stream.conn.info.listener.buffer_limit;
    let limit = if forward.mirrors.is_empty() {
        if policy.is_none_or(|p| p.num_retries == 0) {
            return Plan::Once(Some(body));
        }
        limit
    } else {
        limit.max(MIRROR_LIMIT)
    };
    let kept = Kept::new(body, limit);
    let reading = Reading::new(&kept);
    Plan::Kept(kept, reading)
}

impl Forwarding<'_> {
    /// Passes a response on.
    fn respond(&mut self, answer: Answer) -> Response<ResponseBody> {
        let Answer {
            answered: Answered { response, lease },
            active,
            endpoint,
        } = answer;
        let stream = self.stream;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for that.
            let local = Failure::Reset(Reset::Protocol).into_local(false);
            return local.into_response(stream, self.grpc);
        }
        let (mut parts, body) = response.into_parts();
        let seen = Seen::among(&parts.headers);
        headers::strip_hop_by_hop(&mut parts.headers, seen, false);
        if seen.has(Seen::TE) {
            parts.headers.remove(header::TE);
        }
        self.response_headers(parts.status, &mut parts.headers, seen, &endpoint);
        stream.note(|r| r.details = "via_upstream".into());
        let from = FromUpstream {
            body,
            lease: Some(lease),
            active: Some(active),
            timers: std::mem::take(&mut self.timers),
            messages: self.grpc.then(MessageCounter::default),
        };
        Response::from_parts(parts, ResponseBody::upstream(from, stream))
    }

    fn upgrade(
        &mut self,
        answer: Answer,
        (upgrade, key): (Upgrade, Option<HeaderValue>),
        caller: hyper::upgrade::OnUpgrade,
    ) -> Response<ResponseBody> {
        if !upgrade::is_granted(&answer.answered.response, &upgrade, answer.answered.lease.is_http2()) {
            return self.respond(answer);
        }
        let Answer {
            answered: Answered { mut response, lease },
            active,
            endpoint,
        } = answer;
        let seen = Seen::among(response.headers());
        self.response_headers(response.status(), response.headers_mut(), seen, &endpoint);
        self.stream.note(|r| r.details = "via_upstream".into());
        let ends = Ends {
            upgrade: &upgrade,
            caller,
            key,
            lease,
            active,
            idle: self.timers.idle,
        };
        upgrade::tunnel(self.stream, response, ends)
    }

    fn response_headers(&self, status: StatusCode, headers: &mut http::HeaderMap, seen: Seen, endpoint: &Endpoint) {
        let stream = self.stream;
        if seen.has(Seen::PEER) && stream.direction() != Direction::Inbound && has(stream, &HttpFilter::PeerMetadata) {
            // TLS alone proves no membership of the mesh: an external service has a certificate too.
            let trusted = endpoint.transport.tls().is_some()
                && stream.note(|r| {
                    r.upstream_principal
                        .as_deref()
                        .is_some_and(|p| p.starts_with("spiffe://"))
                });
            let found = peer::outbound_response(headers, trusted, &stream.conn.worker.telemetry);
            if found.is_some() {
                stream.note(|r| r.peer = found);
            }
        }
        let now = Instant::now();
        stream.note(|r| {
            r.response_start = Some(now);
            r.response_code = status.as_u16();
        });
        // As in Envoy since all of the request was there, over all attempts; an answer before that, or to an upgrade,
        // has no such time.
        if let Some(done) = stream.request_done().filter(|_| !self.upgrading) {
            let millis = u64::try_from(now.saturating_duration_since(done).as_millis()).unwrap_or(u64::MAX);
            headers.insert(SERVICE_TIME.clone(), headers::number(millis));
        }
        for cookie in &self.cookies {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
        operate(self.destination, self.routed, headers, stream);
    }
}
