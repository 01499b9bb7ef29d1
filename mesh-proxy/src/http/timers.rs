//! Limits of time on one stream. Nothing is armed before the first wait, and all limits share one timer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::stream::Stream;

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
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    pub(crate) fn new(request: Option<Duration>, idle: Option<Duration>) -> Self {
        Timers {
            request,
            idle,
            ..Timers::default()
        }
    }

    /// Whether there is anything to watch.
    pub(crate) fn is_empty(&self) -> bool {
        self.request.is_none() && self.attempt.is_none() && self.idle.is_none() && self.receive.is_none()
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
        [request, attempt, idle, receive]
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
