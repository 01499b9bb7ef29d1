//! From a route to a response: cluster, headers, attempts.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};

use super::body::{FromUpstream, Kept, Reading, RequestBody, ResponseBody};
use super::grpc::{self, MessageCounter};
use super::handle::{Inbound, keep_original_path, set, with_query};
use super::headers::{self, ATTEMPT_COUNT, DECORATOR, EXPECTED_TIMEOUT, SERVICE_TIME};
use super::mirror;
use super::reply::Local;
use super::retry::{Failure, Reset, back_off, is_retriable};
use super::routes::rewrite_prefix;
use super::stream::Stream;
use super::timers::{Expired, Timers};
use super::upgrade::{self, Ends};
use super::upstream_request::{ActiveRequest, Answered, Failed, Like, Outgoing, Upgrade, attempt, retry_permit};
use crate::snapshot::{
    Cluster, Direction, Discovery, Endpoint, Forward, HeaderOps, HeaderOpsPair, HostRewrite, HttpFilter, RetryPolicy,
    Route, RouteTable, Target, Transport, VirtualHost,
};
use crate::telemetry::{ResponseFlags, peer};
use crate::upstream::{PickContext, pick, random};

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

/// The caller's body, as attempts may use it.
enum Plan {
    Empty,
    Once(Option<Incoming>),
    Kept(Rc<RefCell<Kept>>, #[allow(dead_code)] Reading),
}

/// One request on its way to a cluster.
struct Forwarding<'a> {
    stream: &'a Rc<Stream>,
    routed: Routed<'a>,
    cluster: &'a Arc<Cluster>,
    policy: Option<&'a RetryPolicy>,
    /// Header operations of the weighted destination.
    destination: Option<&'a HeaderOpsPair>,
    host_from_endpoint: bool,
    version: http::Version,
    grpc: bool,
    /// The body has no known length.
    streams: bool,
    plan: Plan,
    timers: Timers,
    attempts: u32,
    tried: Vec<SocketAddr>,
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
        set(&mut inbound.headers, &DECORATOR, operation);
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
        mirror::send(stream, mirrored, &outgoing, body, inbound.version, streams);
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
        Err(failure) => failure.into_local().into_response(stream, inbound.grpc),
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
    stream.note(|r| r.uri = http::Uri::from(changed.clone()));
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

/// A response, with what belongs to it.
struct Answer {
    answered: Answered,
    active: ActiveRequest,
    endpoint: Arc<Endpoint>,
    /// When the attempt began.
    began: Instant,
}

impl Forwarding<'_> {
    /// Attempts until there is a response to pass on, or none to hope for.
    async fn run(&mut self, outgoing: &mut Outgoing) -> Result<Answer, Failure> {
        let mut stale = 0;
        let mut permit = None;
        loop {
            let result = self.one(outgoing).await;
            let retrying = permit.take().is_some();
            let (failure, sent) = match result {
                Ok(answer) => {
                    let response = &answer.answered.response;
                    let again = self
                        .policy
                        .is_some_and(|p| is_retriable(p, response.status(), response.headers()));
                    if !again {
                        if retrying {
                            self.cluster.stats.upstream_rq_retry_success.inc();
                        }
                        return Ok(answer);
                    }
                    match self.may_retry() {
                        Some(next) => permit = Some(next),
                        None => return Ok(answer),
                    }
                    discard(answer);
                    self.wait().await?;
                    continue;
                }
                Err(Failed { failure, sent, reused }) => {
                    // The upstream closed the connection just as the request was on its way. It may not have seen it, and if
                    // it has, these requests may be made twice (RFC 9110, 9.2.2). This is not one of the policy's retries.
                    if sent
                        && reused
                        && stale < 2
                        && matches!(failure, Failure::Reset(Reset::ConnectionTermination))
                        && outgoing.method.is_idempotent()
                        && self.can_replay()
                    {
                        stale += 1;
                        self.attempts -= 1;
                        continue;
                    }
                    (failure, sent)
                }
            };
            if !self.policy.is_some_and(|p| failure.is_retriable(p, sent)) {
                return Err(failure);
            }
            match self.may_retry() {
                Some(next) => permit = Some(next),
                None => return Err(failure),
            }
            self.wait().await?;
        }
    }

    /// The next attempt's place in the books; `None` when there is to be none.
    fn may_retry(&self) -> Option<impl Drop + use<>> {
        let stats = &self.cluster.stats;
        let policy = self.policy?;
        if self.attempts > policy.num_retries {
            stats.upstream_rq_retry_limit_exceeded.inc();
            self.stream
                .note(|r| r.flags.set(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED));
            return None;
        }
        if !self.can_replay() {
            return None;
        }
        let permit = retry_permit(self.cluster);
        if permit.is_none() {
            stats.upstream_rq_retry_overflow.inc();
        } else {
            stats.upstream_rq_retry.inc();
        }
        permit
    }

    fn can_replay(&self) -> bool {
        match &self.plan {
            Plan::Empty => true,
            Plan::Once(body) => body.is_some(),
            Plan::Kept(kept, _) => kept.borrow().can_replay(),
        }
    }

    /// Waits before the next attempt, within the request's time.
    async fn wait(&mut self) -> Result<(), Failure> {
        let Some(policy) = self.policy else { return Ok(()) };
        let pause = back_off(policy, self.attempts);
        self.timers.attempt = None;
        let (timers, stream) = (&mut self.timers, self.stream);
        let mut sleep = pin!(tokio::time::sleep(pause));
        poll_fn(|cx| match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => timers.poll(cx, stream).map(|e| Err(failure_of(e))),
        })
        .await
    }

    /// One attempt.
    async fn one(&mut self, outgoing: &mut Outgoing) -> Result<Answer, Failed> {
        self.attempts += 1;
        let stream = self.stream;
        let worker = &stream.conn.worker;
        let info = &stream.conn.info;
        if self.cluster.discovery == Discovery::OriginalDst && info.would_loop() {
            return Err(Failure::NoEndpoint.into());
        }
        let context = PickContext {
            avoid: &self.tried,
            avoid_attempts: self.policy.map_or(0, |p| p.host_selection_attempts),
            original_dst: Some(info.destination),
        };
        let endpoint = pick(self.cluster, worker, context).ok_or(Failure::NoEndpoint)?;
        stream.note(|r| {
            r.attempts = self.attempts;
            r.upstream_host = Some(endpoint.address);
            r.endpoint = Some(endpoint.clone());
        });
        if self.policy.is_some_and(|p| p.avoid_previous_hosts) {
            self.tried.push(endpoint.address);
        }
        let active = ActiveRequest::start(self.cluster, &endpoint).ok_or(Failure::Overflow)?;
        let began = Instant::now();
        self.timers.attempt = self.policy.and_then(|p| p.per_try_timeout).map(|limit| began + limit);
        self.prepare(outgoing, &endpoint);
        let body = match &mut self.plan {
            Plan::Empty => RequestBody::empty(),
            Plan::Once(body) => body
                .take()
                .map_or_else(RequestBody::empty, |b| RequestBody::direct(b, stream, self.grpc)),
            Plan::Kept(kept, _) => RequestBody::replay(kept, stream, self.grpc),
        };
        let like = Like {
            version: self.version,
            filters: &stream.manager.filters,
            streams: self.streams,
            keep: self.policy.is_some_and(|p| self.attempts <= p.num_retries),
        };
        let timers = &mut self.timers;
        let outcome = {
            let mut trying = pin!(attempt(worker, self.cluster, &endpoint, like, outgoing, body));
            poll_fn(|cx| match trying.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                Poll::Pending => timers.poll(cx, stream).map(Err),
            })
            .await
        };
        match outcome {
            Ok(Ok(answered)) => {
                active.answered(answered.response.status());
                stream.note(|r| {
                    r.upstream_local = answered.lease.local();
                    r.upstream_principal = answered.lease.peer_uri();
                });
                Ok(Answer {
                    answered,
                    active,
                    endpoint,
                    began,
                })
            }
            Ok(Err(failed)) => {
                active.failed();
                if let Failure::Connect(error) = &failed.failure {
                    let why: Arc<str> = error.transport_failure().unwrap_or_else(|| error.to_string()).into();
                    stream.note(|r| r.upstream_failure = Some(why));
                }
                Err(failed)
            }
            Err(expired) => {
                active.timed_out(expired);
                Err(Failed {
                    failure: failure_of(expired),
                    sent: true,
                    reused: false,
                })
            }
        }
    }

    /// Headers that depend on the attempt.
    fn prepare(&self, outgoing: &mut Outgoing, endpoint: &Arc<Endpoint>) {
        let stream = self.stream;
        let headers = &mut outgoing.headers;
        if self.host_from_endpoint
            && let Some(host) = endpoint.hostname.as_ref().and_then(|h| HeaderValue::from_str(h).ok())
        {
            headers.insert(header::HOST, host);
        }
        if self.routed.host.include_attempt_count {
            headers.insert(ATTEMPT_COUNT.clone(), HeaderValue::from(self.attempts));
        }
        let limit = self
            .policy
            .and_then(|p| p.per_try_timeout)
            .into_iter()
            .chain(self.timers.request)
            .min();
        if let Some(limit) = limit {
            let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            headers.insert(EXPECTED_TIMEOUT.clone(), headers::number(millis));
        }
        if stream.direction() != Direction::Inbound && has(stream, &HttpFilter::PeerMetadata) {
            let telemetry = &stream.conn.worker.telemetry;
            peer::outbound_request(headers, self.cluster, &endpoint.transport, telemetry);
        }
    }

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
        headers::strip_hop_by_hop(&mut parts.headers, false);
        parts.headers.remove(header::TE);
        self.response_headers(&mut parts.headers, &endpoint, began);
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
        self.response_headers(response.headers_mut(), &endpoint, began);
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

    fn response_headers(&self, headers: &mut http::HeaderMap, endpoint: &Endpoint, began: Instant) {
        let stream = self.stream;
        if stream.direction() != Direction::Inbound && has(stream, &HttpFilter::PeerMetadata) {
            let trusted = matches!(endpoint.transport, Transport::Tls(_));
            let found = peer::outbound_response(headers, trusted, &stream.conn.worker.telemetry);
            if found.is_some() {
                stream.note(|r| r.peer = found);
            }
        }
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        headers.insert(SERVICE_TIME.clone(), headers::number(millis));
        for ops in
            operations(self.destination, self.routed).map(|pair: &HeaderOpsPair| -> &HeaderOps { &pair.response })
        {
            headers::apply(ops, headers);
        }
    }
}

fn has(stream: &Stream, filter: &HttpFilter) -> bool {
    stream
        .manager
        .filters
        .iter()
        .any(|f| std::mem::discriminant(f) == std::mem::discriminant(filter))
}

fn failure_of(expired: Expired) -> Failure {
    match expired {
        Expired::Request => Failure::Timeout,
        Expired::Try => Failure::TryTimeout,
        Expired::Idle => Failure::Idle,
        Expired::Receive => Failure::ReceiveTimeout,
    }
}

/// Lets go of a response that is not passed on; its connection is kept when nothing is left to read.
fn discard(answer: Answer) {
    let Answered { response, lease } = answer.answered;
    if response.body().is_end_stream() {
        lease.release();
    }
}
