//! One way of a connection: from the reader through a buffer or a pipe to the writer.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::buffers;
use super::copy::{End, Tally};
use super::pipe::Pipe;
use super::stream::ByteStream;

/// A read of so many bytes speaks for a stream in bulk,
const LARGE: usize = 16 * 1024;
/// so many of them in a row make it one, and only then is a pipe worth its while.
const BULK: u32 = 4;

/// Which end of a direction broke.
pub(super) enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

impl Broken {
    pub(super) fn into_end(self, reader: fn(io::Error) -> End, writer: fn(io::Error) -> End) -> End {
        match self {
            Broken::Reading(error) => reader(error),
            Broken::Writing(error) => writer(error),
        }
    }
}

/// The way from one side to the other.
pub(super) struct Direction {
    held: Held,
    limit: usize,
    state: State,
    /// The writer may hold bytes back (TLS).
    dirty: bool,
    /// Large reads in a row.
    large: u32,
    /// Cleared where the system refuses to splice.
    splices: bool,
}

/// Bytes between reader and writer.
enum Held {
    Nothing,
    /// In a buffer, from the first that is not written yet to the last that was read.
    Buffer(Box<[u8]>, Range<usize>),
    /// In the kernel.
    Pipe(Pipe),
}

enum State {
    Copying,
    /// The reader is at its end or has failed; what is held still goes out.
    Ending(io::Result<()>),
    Done,
}

impl Direction {
    pub(super) fn new(limit: usize) -> Self {
        Direction {
            held: Held::Nothing,
            limit: limit.clamp(1, buffers::SIZE),
            state: State::Copying,
            dirty: false,
            large: 0,
            splices: true,
        }
    }

    /// Moves what can be moved; ready when the reader has ended and the writer has been told.
    pub(super) fn poll<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        moved: &Tally,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>>
    where
        R: ByteStream,
        W: ByteStream,
    {
        // Whether the reader has said that it will wake us.
        let mut waits = false;
        loop {
            ready!(self.drain(writer, cx)).map_err(Broken::Writing)?;
            match &mut self.state {
                State::Copying if !waits => waits = self.fill(reader, writer, moved, cx).is_pending(),
                State::Copying => {
                    if self.dirty {
                        ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Broken::Writing)?;
                        self.dirty = false;
                    }
                    return Poll::Pending;
                }
                State::Ending(Ok(())) => {
                    // A peer that is gone already cannot be told; what it has sent before still goes the other way.
                    let _ = ready!(Pin::new(&mut *writer).poll_shutdown(cx));
                    self.state = State::Done;
                }
                State::Ending(failed) => {
                    return Poll::Ready(std::mem::replace(failed, Ok(())).map_err(Broken::Reading));
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes all that is held.
    fn drain<W: ByteStream>(&mut self, writer: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.held {
            Held::Nothing => return Poll::Ready(Ok(())),
            Held::Buffer(buffer, left) => {
                while left.start < left.end {
                    let n = ready!(Pin::new(&mut *writer).poll_write(cx, &buffer[left.clone()]))?;
                    if n == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    left.start += n;
                    self.dirty = true;
                }
            }
            Held::Pipe(pipe) => {
                while !pipe.is_empty() {
                    // It had a socket when the pipe was filled, and nothing puts bytes in its way after that.
                    let socket = writer.socket().ok_or(io::ErrorKind::NotConnected)?;
                    let n = ready!(pipe.poll_drain(socket, cx))?;
                    writer.written_past(n);
                }
            }
        }
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => {}
            Held::Buffer(buffer, _) => buffers::give(buffer),
            Held::Pipe(pipe) => pipe.give(),
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what there is, at most as much as may be held. Pending when the reader will wake us for more, also when
    /// something was read.
    fn fill<R, W>(&mut self, reader: &mut R, writer: &W, moved: &Tally, cx: &mut Context<'_>) -> Poll<()>
    where
        R: ByteStream,
        W: ByteStream,
    {
        if self.splices
            && self.large >= BULK
            && let (Some(socket), Some(_)) = (reader.socket(), writer.socket())
            && let Ok(mut pipe) = Pipe::take()
        {
            let polled = pipe.poll_fill(socket, cx);
            self.held = Held::Pipe(pipe);
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.state = State::Ending(Ok(())),
                Poll::Ready(Ok(n)) => {
                    reader.read_past(n);
                    self.note(n, moved);
                }
                Poll::Ready(Err(error)) if refused(&error) => self.splices = false,
                Poll::Ready(Err(error)) => self.state = State::Ending(Err(error)),
            }
            return Poll::Ready(());
        }
        let mut buffer = buffers::take();
        let mut end = 0;
        let polled = loop {
            let mut free = ReadBuf::new(&mut buffer[end..self.limit]);
            match Pin::new(&mut *reader).poll_read(cx, &mut free) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Ok(())) if !free.filled().is_empty() => {
                    end += free.filled().len();
                    if end == self.limit {
                        break Poll::Ready(());
                    }
                }
                Poll::Ready(outcome) => {
                    self.state = State::Ending(match outcome {
                        // TLS without a farewell. Many programs close so, and opaque bytes have their own framing.
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                        outcome => outcome,
                    });
                    break Poll::Ready(());
                }
            }
        };
        self.held = Held::Buffer(buffer, 0..end);
        self.note(end, moved);
        polled
    }

    /// Counts what was read, and keeps in mind what kind of stream it is. One that has nothing is not thereby another.
    fn note(&mut self, read: usize, moved: &Tally) {
        if read > 0 {
            moved.add(read);
            self.large = if read >= LARGE.min(self.limit) {
                self.large.saturating_add(1)
            } else {
                0
            };
        }
    }
}

/// The system does not splice these sockets, or does not let us: an old kernel, a sandbox.
fn refused(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}
