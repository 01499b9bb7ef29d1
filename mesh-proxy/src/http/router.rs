//! From a route to a response: cluster, headers, attempts.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};

use super::accept::{Inbound, with_query};
use super::attempts::{Answer, Forwarding, Plan, has};
use super::body::{Kept, Reading, RequestBody};
use super::grpc::{self, MessageCounter};
use super::handle::keep_original_path;
use super::headers::{self, DECORATOR, SERVICE_TIME, Seen};
use super::mirror;
use super::reply::Local;
use super::response_body::{FromUpstream, ResponseBody};
use super::retry::{Failure, Reset};
use super::routes::rewrite_prefix;
use super::stream::Stream;
use super::timers::Timers;
use super::upgrade::{self, Ends};
use super::upstream_request::{Answered, Outgoing, Upgrade};
use crate::snapshot::{
    Direction, Endpoint, Forward, HeaderOpsPair, HostRewrite, HttpFilter, RetryPolicy, Route, RouteTable, Target,
    Transport, VirtualHost,
};
use crate::telemetry::{ResponseFlags, peer};
use crate::upstream::random;

/// What is kept of a body for another attempt, past which there is none.
const REPLAY_LIMIT: usize = 64 * 1024;

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
        return local.into_response(stream, inbound.grpc);
    };
    stream.note(|r| r.cluster = Some(cluster.clone()));

    let timers = timers(stream, &inbound, routed);
    for ops in operations(destination, routed) {
        headers::apply(&ops.request, &mut inbound.headers);
    }
    rewrite(stream, &mut inbound, routed);
    let host_rewrite = match weighted_host {
        HostRewrite::None => &forward.host_rewrite,
        rewrite => rewrite,
    };
    if let HostRewrite::Literal(host) = host_rewrite {
        inbound.headers.insert(header::HOST, host.clone());
    }
    if stream.direction() != Direction::Inbound
        && let Some(operation) = &routed.route.operation
    {
        inbound.headers.insert(DECORATOR.clone(), operation.clone());
    }

    let policy = forward
        .retry
        .as_deref()
        .or(host.retry.as_deref())
        .filter(|p| p.num_retries > 0);
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
    let mut forwarding = Forwarding {
        stream,
        routed,
        cluster,
        policy,
        destination,
        host_from_endpoint: matches!(host_rewrite, HostRewrite::Auto),
        version: inbound.version,
        grpc: inbound.grpc,
        streams,
        plan,
        timers,
        attempts: 0,
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
    let upgraded = (outgoing.upgrade != Upgrade::No).then(|| {
        let key = outgoing.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
        (outgoing.upgrade.clone(), key)
    });
    match forwarding.run(&mut outgoing).await {
        Ok(answer) => match (upgraded, inbound.on_upgrade) {
            (Some(upgrade), Some(caller)) => forwarding.upgrade(answer, upgrade, caller),
            _ => forwarding.respond(answer),
        },
        Err(failure) => {
            let mut response = failure.into_local().into_response(stream, inbound.grpc);
            // As in Envoy's router, what the route says of responses holds for those that it makes itself.
            forwarding.operate(response.headers_mut());
            response
        }
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

/// Limits of time for the request, told to the upstream too.
fn timers(stream: &Stream, inbound: &Inbound, routed: Routed<'_>) -> Timers {
    let forward = routed.forward;
    let request = match forward.max_grpc_timeout {
        Some(max) if inbound.grpc => {
            let asked = grpc::timeout(&inbound.headers).unwrap_or_default();
            let limit = if !max.is_zero() && (asked.is_zero() || asked > max) {
                max
            } else {
                asked
            };
            Some(limit).filter(|l| !l.is_zero())
        }
        _ => forward.timeout,
    };
    let idle = match forward.idle_timeout {
        Some(Duration::ZERO) => None,
        Some(limit) => Some(limit),
        None => stream.manager.stream_idle_timeout,
    };
    let mut timers = Timers::new(request, idle);
    timers.receive = stream.manager.request_timeout.map(|limit| Instant::now() + limit);
    timers
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
        match regex.replace_all(path, to.as_str()) {
            std::borrow::Cow::Borrowed(_) => return,
            std::borrow::Cow::Owned(changed) => changed,
        }
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
    let limit = if forward.mirrors.is_empty() {
        if policy.is_none() {
            return Plan::Once(Some(body));
        }
        REPLAY_LIMIT
    } else {
        stream.conn.info.listener.buffer_limit.max(REPLAY_LIMIT)
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
            began,
        } = answer;
        let stream = self.stream;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for that.
            let local = Failure::Reset(Reset::Protocol).into_local();
            return local.into_response(stream, self.grpc);
        }
        let (mut parts, body) = response.into_parts();
        let seen = Seen::among(&parts.headers);
        headers::strip_hop_by_hop(&mut parts.headers, seen, false);
        if seen.has(Seen::TE) {
            parts.headers.remove(header::TE);
        }
        self.response_headers(&mut parts.headers, seen, &endpoint, began);
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
            began,
        } = answer;
        let seen = Seen::among(response.headers());
        self.response_headers(response.headers_mut(), seen, &endpoint, began);
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

    fn response_headers(&self, headers: &mut http::HeaderMap, seen: Seen, endpoint: &Endpoint, began: Instant) {
        let stream = self.stream;
        if seen.has(Seen::PEER) && stream.direction() != Direction::Inbound && has(stream, &HttpFilter::PeerMetadata) {
            // TLS alone proves no membership of the mesh: an external service has a certificate too.
            let trusted = matches!(endpoint.transport, Transport::Tls(_))
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
        stream.note(|r| r.response_start = Some(now));
        let millis = u64::try_from(now.saturating_duration_since(began).as_millis()).unwrap_or(u64::MAX);
        headers.insert(SERVICE_TIME.clone(), headers::number(millis));
        self.operate(headers);
    }

    /// The route's operations on response headers.
    fn operate(&self, headers: &mut http::HeaderMap) {
        for pair in operations(self.destination, self.routed) {
            headers::apply(&pair.response, headers);
        }
    }
}
