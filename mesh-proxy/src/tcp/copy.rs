//! Bytes both ways, until both sides have said that they are done.

use std::cell::Cell;
use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::telemetry::stats::Counter;

/// First size of a buffer: many connections are small or idle for most of their life.
const SMALL: usize = 2 * 1024;
/// A buffer that was filled grows by this factor,
const GROWTH: usize = 4;
/// up to this size, where a system call's cost no longer counts beside the copying.
const LARGE: usize = 64 * 1024;

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

    fn add(&self, n: usize) {
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
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
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

/// Which end of a direction broke.
enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

impl Broken {
    fn into_end(self, reader: fn(io::Error) -> End, writer: fn(io::Error) -> End) -> End {
        match self {
            Broken::Reading(error) => reader(error),
            Broken::Writing(error) => writer(error),
        }
    }
}

struct Direction {
    buffer: Vec<u8>,
    /// Written already.
    start: usize,
    /// Read already.
    end: usize,
    limit: usize,
    state: State,
    /// The writer may hold bytes back (TLS).
    dirty: bool,
}

#[derive(PartialEq)]
enum State {
    Copying,
    /// The reader is at its end, what is buffered still goes out.
    Finishing,
    Done,
}

impl Direction {
    fn new(limit: usize) -> Self {
        Direction {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            limit: limit.clamp(1, LARGE),
            state: State::Copying,
            dirty: false,
        }
    }

    fn poll<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        moved: &Tally,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.state == State::Copying {
            ready!(self.drain(writer, cx)).map_err(Broken::Writing)?;
            match self.fill(reader, cx) {
                Poll::Ready(Ok(0)) => self.state = State::Finishing,
                Poll::Ready(Ok(n)) => moved.add(n),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Reading(error))),
                Poll::Pending => {
                    if self.dirty {
                        ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Broken::Writing)?;
                        self.dirty = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        if self.state == State::Finishing {
            ready!(self.drain(writer, cx)).map_err(Broken::Writing)?;
            // A peer that is gone already cannot be told; what it has sent before still goes the other way.
            let _ = ready!(Pin::new(&mut *writer).poll_shutdown(cx));
            self.state = State::Done;
            self.buffer = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is buffered.
    fn drain<W: AsyncWrite + Unpin>(&mut self, writer: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.start < self.end {
            let n = ready!(Pin::new(&mut *writer).poll_write(cx, &self.buffer[self.start..self.end]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += n;
            self.dirty = true;
        }
        if self.end == self.buffer.len() && self.end > 0 && self.end < self.limit {
            self.buffer = vec![0; (self.end * GROWTH).min(self.limit)];
        }
        (self.start, self.end) = (0, 0);
        Poll::Ready(Ok(()))
    }

    /// Reads into the empty buffer; 0 at the end of the stream.
    fn fill<R: AsyncRead + Unpin>(&mut self, reader: &mut R, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; SMALL.min(self.limit)];
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        match ready!(Pin::new(reader).poll_read(cx, &mut buffer)) {
            Ok(()) => {
                self.end = buffer.filled().len();
                Poll::Ready(Ok(self.end))
            }
            // TLS without a farewell. Many programs close so, and opaque bytes have their own framing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
