//! Pipes, through which splice(2) moves bytes from one socket to another without a copy into this process.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Asked of the kernel, which may grant less to a user who has many pipes.
const CAPACITY: usize = 256 * 1024;

/// So many of a worker's pipes stay for the next streams.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe of this worker.
#[derive(Debug)]
pub(super) struct Pipe {
    input: OwnedFd,
    output: OwnedFd,
    capacity: usize,
    held: usize,
}

impl Pipe {
    /// An empty pipe.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub(super) fn take() -> io::Result<Self> {
        match FREE.with_borrow_mut(Vec::pop) {
            Some(pipe) => Ok(pipe),
            None => Pipe::new(),
        }
    }

    fn new() -> io::Result<Self> {
        let (output, input) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let granted = i32::try_from(CAPACITY).map(|size| fcntl(&input, FcntlArg::F_SETPIPE_SZ(size)));
        let capacity = match granted {
            Ok(Ok(size)) => usize::try_from(size).unwrap_or(CAPACITY),
            // It keeps its first size; a splice moves as much as fits.
            _ => CAPACITY,
        };
        Ok(Pipe {
            input,
            output,
            capacity,
            held: 0,
        })
    }

    /// Gives it back for the next stream; with bytes left in it, it is closed.
    pub(super) fn give(self) {
        if self.held == 0 {
            FREE.with_borrow_mut(|free| {
                if free.len() < KEPT {
                    free.push(self);
                }
            });
        }
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what has arrived into the empty pipe; 0 at the end of the stream. A pipe that is not empty could be full: then
    /// `EAGAIN` would not tell which side it is about.
    pub(super) fn poll_fill(&mut self, from: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &self.input, None, self.capacity, flags())?)
            }) {
                Ok(n) => {
                    self.held = n;
                    return Poll::Ready(Ok(n));
                }
                Err(error) if again(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Moves what is in the pipe out; returns how much went, not always all of it.
    pub(super) fn poll_drain(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || {
                Ok(splice(&self.output, None, to, None, self.held, flags())?)
            }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    self.held = self.held.saturating_sub(n);
                    return Poll::Ready(Ok(n));
                }
                Err(error) if again(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// How many are kept, for tests.
#[cfg(test)]
pub(super) fn kept() -> usize {
    FREE.with_borrow(Vec::len)
}
