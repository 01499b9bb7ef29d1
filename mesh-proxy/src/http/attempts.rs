//! Attempts: one after the other until there is a response to pass on, or none to hope for.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::{HeaderValue, header};
use hyper::body::{Body as _, Incoming};

use super::body::{Kept, Reading, RequestBody};
use super::headers::{self, ATTEMPT_COUNT, EXPECTED_TIMEOUT, Seen};
use super::retry::{Failure, Reset, back_off, is_retriable};
use super::router::Routed;
use super::stream::Stream;
use super::timers::{Expired, Timers};
use super::upstream_request::{ActiveRequest, Answered, Failed, Like, Outgoing, attempt, retry_permit};
use crate::snapshot::{Cluster, Direction, Discovery, Endpoint, HeaderOpsPair, HttpFilter, RetryPolicy};
use crate::telemetry::{ResponseFlags, peer};
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
    pub(super) attempts: u32,
    pub(super) tried: Vec<SocketAddr>,
}

/// A response, with what belongs to it.
pub(super) struct Answer {
    pub(super) answered: Answered,
    pub(super) active: ActiveRequest,
    pub(super) endpoint: Arc<Endpoint>,
    /// When the attempt began.
    pub(super) began: Instant,
}

impl Forwarding<'_> {
    /// Attempts until there is a response to pass on, or none to hope for.
    pub(super) async fn run(&mut self, outgoing: &mut Outgoing) -> Result<Answer, Failure> {
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
