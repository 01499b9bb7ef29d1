//! Limits of time on one stream. Nothing is armed before the first wait, and all limits share one timer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::accept::Inbound;
use super::grpc;
use super::stream::Stream;
use crate::snapshot::Forward;

/// Which limit has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Route timeout (or `grpc-timeout`), from the end of the request on.
    Request,
    /// `per_try_timeout`.
    Try,
    /// Stream idle timeout.
    Idle,
    /// The manager's `request_timeout`: the request did not come wholly in time.
    Receive,
    /// `max_stream_duration`: the whole stream, response included.
    Duration,
}

/// Limits of one attempt and of the stream around it.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    pub(crate) request: Option<Duration>,
    /// End of this attempt.
    pub(crate) attempt: Option<Instant>,
    pub(crate) idle: Option<Duration>,
    /// Until when the request has to be there.
    pub(crate) receive: Option<Instant>,
    /// Until when all of the stream has to be done.
    pub(crate) duration: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    /// Those of a request on this route. What they make of the caller's deadline is told to the upstream too.
    pub(super) fn of(stream: &Stream, inbound: &mut Inbound, forward: &Forward) -> Self {
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
        timers.duration = forward.grpc_timeout_header_max.and_then(|max| {
            let asked = grpc::timeout(&inbound.headers)?;
            let limit = if max.is_zero() { asked } else { asked.min(max) };
            let millis = u64::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            inbound.headers.insert(grpc::TIMEOUT, grpc::timeout_value(millis));
            Some(stream.started_at() + Duration::from_millis(millis))
        });
        timers.receive = stream.manager.request_timeout.map(|limit| Instant::now() + limit);
        timers
    }

    pub(crate) fn new(request: Option<Duration>, idle: Option<Duration>) -> Self {
        Timers {
            request,
            idle,
            ..Timers::default()
        }
    }

    /// Whether there is anything to watch.
    pub(crate) fn is_empty(&self) -> bool {
        self.request.is_none()
            && self.attempt.is_none()
            && self.idle.is_none()
            && self.receive.is_none()
            && self.duration.is_none()
    }

    /// The earliest limit as of now. A limit that has not started to run is looked at again after its length.
    fn next(&self, stream: &Stream, now: Instant) -> Option<(Instant, Expired)> {
        let request = self
            .request
            .map(|limit| (stream.request_done().unwrap_or(now) + limit, Expired::Request));
        let attempt = self.attempt.map(|at| (at, Expired::Try));
        let idle = self
            .idle
            .map(|limit| (stream.active_at().unwrap_or(now) + limit, Expired::Idle));
        let receive = self
            .receive
            .filter(|_| stream.request_done().is_none())
            .map(|at| (at, Expired::Receive));
        let duration = self.duration.map(|at| (at, Expired::Duration));
        [request, attempt, idle, receive, duration]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// To be polled when there is nothing else to do; ready when a limit has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<Expired> {
        if self.is_empty() {
            return Poll::Pending;
        }
        loop {
            let now = Instant::now();
            let Some((at, what)) = self.next(stream, now) else {
                return Poll::Pending;
            };
            if at <= now {
                return Poll::Ready(what);
            }
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
            // Moved only when it would come too late, or has come too early: activity does not touch the timer.
            if sleep.deadline() > at.into() || sleep.is_elapsed() {
                sleep.as_mut().reset(at.into());
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
