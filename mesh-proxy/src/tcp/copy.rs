//! Bytes both ways, until both sides have said that they are done.

use std::cell::Cell;
use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::direction::Direction;
use super::stream::ByteStream;
use crate::telemetry::stats::Counter;

/// Bytes moved so far; read while the copying goes on.
#[derive(Debug, Default)]
pub struct Totals {
    /// From the caller.
    pub received: Tally,
    /// To the caller.
    pub sent: Tally,
}

/// Bytes of one direction.
#[derive(Debug, Default)]
pub struct Tally {
    bytes: Cell<u64>,
    counter: Counter,
}

impl Tally {
    /// Counts for `counter` too.
    pub fn new(counter: &Counter) -> Self {
        Tally {
            bytes: Cell::new(0),
            counter: counter.clone(),
        }
    }

    /// Bytes of this connection.
    pub fn get(&self) -> u64 {
        self.bytes.get()
    }

    pub(super) fn add(&self, n: usize) {
        self.bytes.set(self.bytes.get() + n as u64);
        self.counter.add(n as u64);
    }
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// Both sides are done.
    Done,
    /// Nothing moved for the idle time.
    Idle,
    /// The caller's side broke.
    Downstream(io::Error),
    /// The upstream's side broke.
    Upstream(io::Error),
}

/// Copies both ways. A side that ends its stream is passed on as such (half-close), the other direction goes on. `limit`
/// bounds the buffers; `idle` ends a connection on which nothing moves in either direction.
pub async fn copy_both<D, U>(mut down: D, mut up: U, totals: &Totals, idle: Option<Duration>, limit: usize) -> End
where
    D: ByteStream,
    U: ByteStream,
{
    let mut to_up = Direction::new(limit);
    let mut to_down = Direction::new(limit);
    // Made on the first wait and moved on only when it fires: no timer work on the way of the bytes.
    let mut last_moved = Instant::now();
    let mut timer = pin!(idle.map(|idle| tokio::time::sleep_until(last_moved + idle)));

    std::future::poll_fn(move |cx| {
        let before = (totals.received.get(), totals.sent.get());
        let up_done = match to_up.poll(&mut down, &mut up, &totals.received, cx) {
            Poll::Ready(Err(broken)) => return Poll::Ready(broken.into_end(End::Downstream, End::Upstream)),
            other => other.is_ready(),
        };
        let down_done = match to_down.poll(&mut up, &mut down, &totals.sent, cx) {
            Poll::Ready(Err(broken)) => return Poll::Ready(broken.into_end(End::Upstream, End::Downstream)),
            other => other.is_ready(),
        };
        if up_done && down_done {
            return Poll::Ready(End::Done);
        }
        let (Some(idle), Some(mut timer)) = (idle, timer.as_mut().as_pin_mut()) else {
            return Poll::Pending;
        };
        if before != (totals.received.get(), totals.sent.get()) {
            last_moved = Instant::now();
        }
        while timer.as_mut().poll(cx).is_ready() {
            let until = last_moved + idle;
            if until <= Instant::now() {
                return Poll::Ready(End::Idle);
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    })
    .await
}
