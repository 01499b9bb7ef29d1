//! Hedging (`hedge_on_per_try_timeout`): an attempt that takes longer than `per_try_timeout` is not given up, another one is
//! made beside it, and the first response that need not be retried is passed on. The others are reset.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::attempts::{Answer, Forwarding, discard, failure_of};
use super::retry::{Failure, back_off, is_retriable};
use super::timers::Expired;
use super::upstream_request::{ActiveRequest, Answered, Failed, Outgoing, RetryPermit, attempt};
use crate::snapshot::{Endpoint, RetryPolicy};
use crate::upstream::outlier::{Outcome, observe};

type Ending = (Result<Answered, Failed>, ActiveRequest);

/// Attempts of one request.
struct Race<'a> {
    running: Vec<Attempt<'a>>,
    /// Those to be made, after their back-off.
    coming: Vec<Coming>,
    /// Attempts that came upon a connection which was being closed.
    stale: u32,
}

struct Attempt<'a> {
    outcome: Pin<Box<dyn Future<Output = Ending> + 'a>>,
    endpoint: Arc<Endpoint>,
    /// When it is late; `None` once it was.
    late: Option<Instant>,
    /// Another one is made in its place, so that its own failure is not retried.
    replaced: bool,
    /// Its place among the cluster's retries; none for the first.
    permit: Option<RetryPermit>,
}

struct Coming {
    at: Instant,
    permit: Option<RetryPermit>,
    /// In place of one that came upon a connection which was being closed.
    again: bool,
}

enum Event<'a> {
    Done(Attempt<'a>, Box<Ending>),
    Expired(Expired),
}

impl Race<'_> {
    /// Nobody is left who might do better.
    fn is_over(&self) -> bool {
        self.running.is_empty() && self.coming.is_empty()
    }

    fn retry(&mut self, policy: &RetryPolicy, attempts: u32, permit: RetryPermit) {
        self.coming.push(Coming {
            at: Instant::now() + back_off(policy, attempts),
            permit: Some(permit),
            again: false,
        });
    }
}

impl<'a> Forwarding<'a> {
    /// As [`Forwarding::run`], with attempts side by side.
    pub(super) async fn hedge(&mut self, outgoing: &Outgoing, policy: &RetryPolicy) -> Result<Answer, Failure> {
        let first = Coming {
            at: Instant::now(),
            permit: None,
            again: false,
        };
        let mut race = Race {
            running: Vec::new(),
            coming: vec![first],
            stale: 0,
        };
        loop {
            self.launch_due(&mut race, outgoing, policy)?;
            match self.next(&mut race).await {
                Event::Done(attempt, outcome) => {
                    if let Some(end) = self.done(&mut race, policy, attempt, *outcome) {
                        return end;
                    }
                }
                Event::Expired(Expired::Try) => self.late(&mut race, policy),
                Event::Expired(expired) => {
                    if expired == Expired::Request {
                        self.cluster.stats.upstream_rq_timeout.inc();
                        // Those that were late are known for that already.
                        for attempt in race.running.iter().filter(|a| a.late.is_some()) {
                            observe(self.cluster, &attempt.endpoint, Outcome::Timeout);
                        }
                    }
                    return Err(failure_of(expired));
                }
            }
        }
    }

    /// Starts the attempts whose time has come.
    fn launch_due(&mut self, race: &mut Race<'a>, outgoing: &Outgoing, policy: &RetryPolicy) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(due) = race.coming.iter().position(|c| c.at <= now) {
            let Coming { permit, again, .. } = race.coming.swap_remove(due);
            if permit.is_some() && !again {
                self.count_retry();
            }
            let active = match self.begin() {
                Ok(active) => active,
                Err(failure) if race.is_over() => return Err(failure),
                Err(_) => continue,
            };
            let mut outgoing = outgoing.clone();
            self.prepare(&mut outgoing, &active.endpoint);
            let (body, like, stream) = (self.body(), self.like(), self.stream);
            race.running.push(Attempt {
                endpoint: active.endpoint.clone(),
                outcome: Box::pin(async move {
                    let outcome = attempt(&stream.conn.worker, &active, like, &mut outgoing, body).await;
                    (outcome, active)
                }),
                late: policy.per_try_timeout.map(|limit| now + limit),
                replaced: false,
                permit,
            });
        }
        let late = race.running.iter().filter_map(|a| a.late);
        self.timers.attempt = late.chain(race.coming.iter().map(|c| c.at)).min();
        Ok(())
    }

    async fn next(&mut self, race: &mut Race<'a>) -> Event<'a> {
        let (timers, stream) = (&mut self.timers, self.stream);
        poll_fn(|cx| {
            for i in 0..race.running.len() {
                if let Poll::Ready(outcome) = race.running[i].outcome.as_mut().poll(cx) {
                    return Poll::Ready(Event::Done(race.running.swap_remove(i), Box::new(outcome)));
                }
            }
            timers.poll(cx, stream).map(Event::Expired)
        })
        .await
    }

    /// An attempt has ended: what the caller gets, or `None` while others may do better.
    fn done(
        &mut self,
        race: &mut Race<'a>,
        policy: &RetryPolicy,
        attempt: Attempt<'a>,
        (result, active): Ending,
    ) -> Option<Result<Answer, Failure>> {
        let answered = match result {
            Ok(answered) => answered,
            Err(failed) => return self.lost(race, policy, attempt, (failed, active)).map(Err),
        };
        let answer = self.answered(answered, active);
        let response = &answer.answered.response;
        if !is_retriable(policy, response.status(), response.headers()) {
            if attempt.permit.is_some() {
                self.cluster.stats.upstream_rq_retry_success.inc();
            }
            self.stream.note(|r| {
                r.upstream_host = Some(answer.endpoint.address);
                r.endpoint = Some(answer.endpoint.clone());
            });
            return Some(Ok(answer));
        }
        drop(attempt.permit);
        if !attempt.replaced
            && let Some(permit) = self.may_retry(race.coming.len())
        {
            race.retry(policy, self.attempts, permit);
        } else if race.is_over() {
            return Some(Ok(answer));
        }
        discard(answer);
        None
    }

    /// An attempt has ended without a response.
    fn lost(
        &mut self,
        race: &mut Race<'a>,
        policy: &RetryPolicy,
        attempt: Attempt<'a>,
        (failed, active): (Failed, ActiveRequest),
    ) -> Option<Failure> {
        self.failed(&failed, &active);
        drop(active);
        if race.stale < 2 && self.is_stale(&failed) {
            race.stale += 1;
            self.attempts -= 1;
            race.coming.push(Coming {
                at: Instant::now(),
                permit: attempt.permit,
                again: true,
            });
            return None;
        }
        drop(attempt.permit);
        if !attempt.replaced
            && failed.failure.is_retriable(policy, failed.sent)
            && let Some(permit) = self.may_retry(race.coming.len())
        {
            race.retry(policy, self.attempts, permit);
            return None;
        }
        race.is_over().then_some(failed.failure)
    }

    /// Attempts that are late get company, whatever `retry_on` says, as in Envoy: nothing has failed yet, and no
    /// `upstream_rq_per_try_timeout` is counted.
    fn late(&mut self, race: &mut Race<'a>, policy: &RetryPolicy) {
        let now = Instant::now();
        for attempt in &mut race.running {
            if attempt.late.is_some_and(|at| at <= now) {
                attempt.late = None;
                observe(self.cluster, &attempt.endpoint, Outcome::Timeout);
                if let Some(permit) = self.may_retry(race.coming.len()) {
                    attempt.replaced = true;
                    race.coming.push(Coming {
                        at: now + back_off(policy, self.attempts),
                        permit: Some(permit),
                        again: false,
                    });
                }
            }
        }
    }
}
