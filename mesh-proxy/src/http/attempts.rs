//! Attempts: one after the other until there is a response to pass on, or none to hope for.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::body::{Body as _, Incoming};

use super::body::{Kept, Reading, RequestBody};
use super::grpc;
use super::headers::{self, ATTEMPT_COUNT, EXPECTED_TIMEOUT, Seen};
use super::retry::{Failure, Reset, back_off, is_retriable};
use super::route_stats;
use super::router::Routed;
use super::stream::Stream;
use super::timers::{Expired, Timers};
use super::upstream_request::{ActiveRequest, Answered, Failed, Like, Outgoing, RetryPermit, attempt};
use crate::snapshot::{Cluster, Direction, Discovery, Endpoint, HeaderOpsPair, HttpFilter, RetryPolicy};
use crate::telemetry::{ResponseFlags, peer};
use crate::upstream::outlier::Outcome;
use crate::upstream::{PickContext, pick};

/// The caller's body, as attempts may use it.
pub(super) enum Plan {
    Empty,
    Once(Option<Incoming>),
    Kept(Rc<RefCell<Kept>>, #[allow(dead_code)] Reading),
}

/// One request on its way to a cluster.
pub(super) struct Forwarding<'a> {
    pub(super) stream: &'a Rc<Stream>,
    pub(super) routed: Routed<'a>,
    pub(super) cluster: &'a Arc<Cluster>,
    /// Where it goes if the cluster lists no endpoints.
    pub(super) going: Option<SocketAddr>,
    pub(super) policy: Option<&'a RetryPolicy>,
    /// Header operations of the weighted destination.
    pub(super) destination: Option<&'a HeaderOpsPair>,
    pub(super) host_from_endpoint: bool,
    pub(super) version: http::Version,
    pub(super) grpc: bool,
    /// The body has no known length.
    pub(super) streams: bool,
    pub(super) plan: Plan,
    pub(super) timers: Timers,
    /// `hedge_on_per_try_timeout`.
    pub(super) hedging: bool,
    /// What the route's hash policies give.
    pub(super) hash: Option<u64>,
    /// Cookies that they made, for the caller.
    pub(super) cookies: Vec<HeaderValue>,
    /// It asks for an upgrade.
    pub(super) upgrading: bool,
    /// The request may be made twice; asked after the request itself has been given away.
    pub(super) idempotent: bool,
    pub(super) attempts: u32,
    /// Priorities of the attempts so far, with `previous_priorities`.
    pub(super) priorities: Vec<u32>,
    /// Those of them that the next attempt avoids.
    pub(super) excluded: Vec<u32>,
    pub(super) tried: Vec<SocketAddr>,
}

/// A response, with what belongs to it.
pub(super) struct Answer {
    pub(super) answered: Answered,
    pub(super) active: ActiveRequest,
    pub(super) endpoint: Arc<Endpoint>,
}

impl<'a> Forwarding<'a> {
    /// Attempts until there is a response to pass on, or none to hope for.
    pub(super) async fn run(&mut self, outgoing: &mut Outgoing) -> Result<Answer, Failure> {
        if let Some(policy) = self.policy.filter(|p| self.hedging && p.per_try_timeout.is_some()) {
            return Box::pin(self.hedge(outgoing, policy)).await;
        }
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
                    match self.may_retry(0) {
                        Some(next) => permit = Some(next),
                        None => return Ok(answer),
                    }
                    discard(answer);
                    self.wait().await?;
                    self.count_retry();
                    continue;
                }
                Err(failed) => {
                    if stale < 2 && self.is_stale(&failed) {
                        stale += 1;
                        self.attempts -= 1;
                        continue;
                    }
                    (failed.failure, failed.sent)
                }
            };
            if !self.policy.is_some_and(|p| failure.is_retriable(p, sent)) {
                return Err(failure);
            }
            match self.may_retry(0) {
                Some(next) => permit = Some(next),
                None => return Err(failure),
            }
            self.wait().await?;
            self.count_retry();
        }
    }

    /// The next attempt's place in the books; `None` when there is to be none. `coming` are on their way already.
    pub(super) fn may_retry(&self, coming: usize) -> Option<RetryPermit> {
        let stats = &self.cluster.stats;
        let policy = self.policy?;
        if self.attempts as usize + coming > policy.num_retries as usize {
            stats.upstream_rq_retry_limit_exceeded.inc();
            route_stats::count(self.stream, self.routed, "upstream_rq_retry_limit_exceeded");
            self.stream
                .note(|r| r.flags.set(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED));
            return None;
        }
        if !self.can_replay() {
            return None;
        }
        let permit = RetryPermit::take(self.cluster);
        if permit.is_none() {
            stats.upstream_rq_retry_overflow.inc();
            route_stats::count(self.stream, self.routed, "upstream_rq_retry_overflow");
            self.stream.note(|r| r.flags.set(ResponseFlags::UPSTREAM_OVERFLOW));
        }
        permit
    }

    /// An attempt is made again, its back-off over.
    pub(super) fn count_retry(&self) {
        self.cluster.stats.upstream_rq_retry.inc();
        route_stats::count(self.stream, self.routed, "upstream_rq_retry");
    }

    /// The upstream closed the connection just as the request was on its way. It may not have seen it, and if it has, these
    /// requests may be made twice (RFC 9110, 9.2.2). This is not one of the policy's retries, nor the endpoint's fault; a
    /// policy that retries this in any case is left to it, so that as many attempts are made as it says.
    pub(super) fn is_stale(&self, failed: &Failed) -> bool {
        failed.sent
            && failed.reused
            && matches!(failed.failure, Failure::Reset(Reset::ConnectionTermination))
            && self.idempotent
            && !self.policy.is_some_and(|p| failed.failure.is_retriable(p, failed.sent))
            && self.can_replay()
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
        let stream = self.stream;
        let active = self.begin()?;
        self.timers.attempt = self
            .policy
            .and_then(|p| p.per_try_timeout)
            .map(|limit| Instant::now() + limit);
        self.prepare(outgoing, &active.endpoint);
        let body = self.body();
        let like = self.like();
        let timers = &mut self.timers;
        let outcome = {
            let mut trying = pin!(attempt(&stream.conn.worker, &active, like, outgoing, body));
            poll_fn(|cx| match trying.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                Poll::Pending => timers.poll(cx, stream).map(Err),
            })
            .await
        };
        match outcome {
            Ok(Ok(answered)) => Ok(self.answered(answered, active)),
            Ok(Err(failed)) => {
                self.failed(&failed, &active);
                Err(failed)
            }
            Err(expired) => {
                active.timed_out(expired);
                if matches!(expired, Expired::Request | Expired::Try) {
                    active.observe(Outcome::Timeout);
                }
                Err(Failed {
                    failure: failure_of(expired),
                    sent: true,
                    reused: false,
                })
            }
        }
    }

    /// Chooses the endpoint of the next attempt, and opens its books.
    pub(super) fn begin(&mut self) -> Result<ActiveRequest, Failure> {
        self.attempts += 1;
        let stream = self.stream;
        let info = &stream.conn.info;
        if self.cluster.discovery == Discovery::OriginalDst && info.would_loop() {
            return Err(Failure::NoEndpoint);
        }
        // Endpoints may have come and gone since the request began, which may well be why it is tried again.
        let now = (self.attempts > 1).then(|| stream.conn.worker.snapshot());
        let now = now.as_ref().and_then(|s| s.clusters.get(&self.cluster.name));
        let cluster = now.unwrap_or(self.cluster);
        let context = PickContext {
            avoid: &self.tried,
            avoid_attempts: self.policy.map_or(0, |p| p.host_selection_attempts),
            hash: self.hash,
            tried_priorities: &self.excluded,
            destination: self.going,
        };
        let endpoint = pick(cluster, &stream.conn.worker, context);
        stream.note(|r| r.attempts = self.attempts);
        let endpoint = endpoint.ok_or(Failure::NoEndpoint)?;
        stream.note(|r| {
            r.upstream_host = Some(endpoint.address);
            r.endpoint = Some(endpoint.clone());
        });
        if self.policy.is_some_and(|p| p.avoid_previous_hosts) {
            self.tried.push(endpoint.address);
        }
        route_stats::count(stream, self.routed, "upstream_rq_total");
        if let Some(often) = self.policy.and_then(|p| p.previous_priorities) {
            self.priorities.push(endpoint.priority);
            // As in Envoy, what is avoided changes only after so many attempts.
            if self.priorities.len().is_multiple_of(often.max(1) as usize) {
                self.excluded.clone_from(&self.priorities);
            }
        }
        Ok(ActiveRequest::start(cluster, endpoint))
    }

    /// The caller's body, for the next attempt.
    pub(super) fn body(&mut self) -> RequestBody {
        match &mut self.plan {
            Plan::Empty => RequestBody::empty(),
            Plan::Once(body) => body
                .take()
                .map_or_else(RequestBody::empty, |b| RequestBody::direct(b, self.stream, self.grpc)),
            Plan::Kept(kept, _) => RequestBody::replay(kept, self.stream, self.grpc),
        }
    }

    pub(super) fn like(&self) -> Like<'a> {
        let stream = self.stream;
        Like {
            version: self.version,
            filters: &stream.manager.filters,
            streams: self.streams,
            keep: self.policy.is_some_and(|p| self.attempts <= p.num_retries),
            proxied: Some((stream.conn.info.remote, stream.conn.info.destination)),
        }
    }

    /// An attempt has got a response.
    pub(super) fn answered(&self, answered: Answered, active: ActiveRequest) -> Answer {
        active.answered(answered.response.status());
        active.observe_answer(&answered.response, self.grpc);
        self.stream.note(|r| {
            r.upstream_local = answered.lease.local();
            r.upstream_principal = answered.lease.peer_uri();
        });
        Answer {
            answered,
            endpoint: active.endpoint.clone(),
            active,
        }
    }

    /// An attempt has ended without a response.
    pub(super) fn failed(&self, failed: &Failed, active: &ActiveRequest) {
        active.failed();
        if !self.is_stale(failed)
            && let Some(outcome) = failed.outcome()
        {
            active.observe(outcome);
        }
        if let Failure::Connect(error) = &failed.failure {
            let why: Arc<str> = error.transport_failure().unwrap_or_else(|| error.to_string()).into();
            self.stream.note(|r| r.upstream_failure = Some(why));
        }
    }

    /// Headers that depend on the attempt.
    pub(super) fn prepare(&self, outgoing: &mut Outgoing, endpoint: &Arc<Endpoint>) {
        let stream = self.stream;
        let headers = &mut outgoing.headers;
        if self.host_from_endpoint
            && let Some(host) = endpoint.hostname.as_ref().and_then(|h| HeaderValue::from_str(h).ok())
        {
            headers::rewrite_host(headers, host);
        }
        if self.routed.host.include_attempt_count {
            headers.insert(ATTEMPT_COUNT.clone(), HeaderValue::from(self.attempts));
        }
        // What is left of the request's time; a late attempt that gets company is not given up.
        let left = self.timers.request.map(|limit| match stream.request_done() {
            Some(done) if self.attempts > 1 => limit.saturating_sub(done.elapsed()).max(Duration::from_millis(1)),
            _ => limit,
        });
        let each = self.policy.and_then(|p| p.per_try_timeout).filter(|_| !self.hedging);
        if let Some(limit) = each.into_iter().chain(left).min() {
            let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            headers.insert(EXPECTED_TIMEOUT.clone(), headers::number(millis));
            if self.grpc && self.routed.forward.max_grpc_timeout.is_some() {
                headers.insert(grpc::TIMEOUT, grpc::timeout_value(millis));
            }
        }
        if stream.direction() != Direction::Inbound && has(stream, &HttpFilter::PeerMetadata) {
            let telemetry = &stream.conn.worker.telemetry;
            // It came with the request, or is of the attempt before, perhaps to another kind of endpoint.
            if outgoing.seen.has(Seen::PEER) {
                peer::strip(headers);
            }
            peer::outbound_request(headers, self.cluster, &endpoint.transport, telemetry);
            outgoing.seen.add(Seen::PEER);
        }
    }
}

pub(super) fn has(stream: &Stream, filter: &HttpFilter) -> bool {
    stream
        .manager
        .filters
        .iter()
        .any(|f| std::mem::discriminant(f) == std::mem::discriminant(filter))
}

pub(super) fn failure_of(expired: Expired) -> Failure {
    match expired {
        Expired::Request => Failure::Timeout,
        Expired::Try => Failure::TryTimeout,
        Expired::Idle => Failure::Idle,
        Expired::Receive => Failure::ReceiveTimeout,
        Expired::Duration => Failure::Duration,
    }
}

/// Lets go of a response that is not passed on; its connection is kept when nothing is left to read.
pub(super) fn discard(answer: Answer) {
    let Answered { response, lease } = answer.answered;
    if response.body().is_end_stream() {
        lease.release();
    }
}
