//! Writes of an HTTP/2 connection, gathered: what its streams send in one turn of its task leaves in one write.
//!
//! The codec hands over every DATA frame that is not tiny by itself, and flushes after each. A response of 1 KiB would
//! cost a system call, a segment and (with TLS) a record of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes gathered; what would not fit goes out at once, uncopied.
const LIMIT: usize = 32 * 1024;

/// Slices given to one write, at most: what was gathered, and the slices of the codec (two).
const SLICES: usize = 4;

thread_local! {
    /// A buffer for whoever writes next, so that a connection holds one only while the peer does not keep up.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream of bytes whose writes wait for [`Gather::settle`]; flushes alone send nothing. Clones are the same stream.
pub(crate) struct Gather<S>(Rc<RefCell<Gathering<S>>>);

struct Gathering<S> {
    io: S,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were sent.
    sent: usize,
    /// `io` has bytes that it was not asked to flush.
    unflushed: bool,
    /// Why the last [`Gather::settle`] failed, for the codec to find.
    failed: Option<io::Error>,
}

impl<S> Clone for Gather<S> {
    fn clone(&self) -> Self {
        Gather(self.0.clone())
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    pub(crate) fn new(io: S) -> Self {
        Gather(Rc::new(RefCell::new(Gathering {
            io,
            buffer: Vec::new(),
            sent: 0,
            unflushed: false,
            failed: None,
        })))
    }

    /// Sends what was gathered. Called by the connection's task each time it has polled the codec; the task is woken to do
    /// so again when the socket has room.
    pub(crate) fn settle(&self, cx: &mut Context<'_>) {
        self.0.borrow_mut().settle(cx);
    }

    /// Spawns hyper's tasks of this connection on the worker's thread, and settles after each poll of one.
    pub(crate) fn exec(&self) -> GatherExec<S> {
        GatherExec(Rc::downgrade(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    fn settle(&mut self, cx: &mut Context<'_>) {
        if !self.unflushed {
            return;
        }
        if let Poll::Ready(Err(error)) = self.poll_all(cx) {
            self.unflushed = false;
            self.failed = Some(error);
            cx.waker().wake_by_ref();
        }
    }

    /// Sends all, down to the socket.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.buffer.len() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.buffer[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.give_back();
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn give_back(&mut self) {
        if self.buffer.capacity() > 0 {
            self.sent = 0;
            self.buffer.clear();
            SPARE.set(std::mem::take(&mut self.buffer));
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        self.unflushed = true;
        let total = bufs.iter().map(|b| b.len()).sum::<usize>();
        if self.buffer.len() + total <= LIMIT {
            if self.buffer.capacity() == 0 {
                self.buffer = SPARE.take();
                self.buffer.reserve(LIMIT);
            }
            for buf in bufs {
                self.buffer.extend_from_slice(buf);
            }
            return Poll::Ready(Ok(total));
        }
        loop {
            let gathered = &self.buffer[self.sent..];
            let mut all = [IoSlice::new(gathered); SLICES];
            let given = bufs.len().min(SLICES - 1);
            all[1..=given].copy_from_slice(&bufs[..given]);
            let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &all[..=given]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let own = gathered.len();
            if n < own {
                self.sent += n;
                continue;
            }
            self.give_back();
            if n > own {
                return Poll::Ready(Ok(n - own));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut all = self.0.borrow_mut();
        if let Some(error) = all.failed.take() {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut all.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: see [`Gather::settle`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut all = self.0.borrow_mut();
        ready!(all.poll_all(cx))?;
        Pin::new(&mut all.io).poll_shutdown(cx)
    }
}

/// See [`Gather::exec`]. Does not keep the connection open.
pub(crate) struct GatherExec<S>(Weak<RefCell<Gathering<S>>>);

impl<S> Clone for GatherExec<S> {
    fn clone(&self) -> Self {
        GatherExec(self.0.clone())
    }
}

impl<S, F> hyper::rt::Executor<F> for GatherExec<S>
where
    S: AsyncWrite + Unpin + 'static,
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        let gathering = self.0.clone();
        // Boxed: hyper's is as large as the whole connection's, for each request, and the runtime moves a task a few times.
        let mut future = Box::pin(future);
        tokio::task::spawn_local(poll_fn(move |cx| {
            let polled = future.as_mut().poll(cx);
            if let Some(gathering) = gathering.upgrade() {
                gathering.borrow_mut().settle(cx);
            }
            polled.map(drop)
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes what it has room for.
    #[derive(Default)]
    struct Socket {
        taken: Vec<u8>,
        writes: usize,
        room: usize,
        broken: bool,
    }

    impl AsyncWrite for Socket {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let n = buf.len().min(self.room);
            if n == 0 {
                return Poll::Pending;
            }
            self.room -= n;
            self.writes += 1;
            self.taken.extend_from_slice(&buf[..n]);
            Poll::Ready(Ok(n))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
            self.as_mut().poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn socket(room: usize) -> Gather<Socket> {
        Gather::new(Socket {
            room,
            ..Socket::default()
        })
    }

    fn write(io: &mut Gather<Socket>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(io).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    #[test]
    fn writes_of_one_turn_leave_together() {
        let mut io = socket(usize::MAX);
        let cx = &mut Context::from_waker(Waker::noop());
        for part in [&b"head"[..], b"body", b"trailers"] {
            assert!(matches!(write(&mut io, part), Poll::Ready(Ok(n)) if n == part.len()));
            assert!(matches!(Pin::new(&mut io).poll_flush(cx), Poll::Ready(Ok(()))));
        }
        assert_eq!(io.0.borrow().io.writes, 0);
        io.settle(cx);
        let all = io.0.borrow();
        assert_eq!((all.io.writes, &all.io.taken[..]), (1, &b"headbodytrailers"[..]));
        assert_eq!(all.buffer.capacity(), 0, "an idle connection holds no buffer");
    }

    #[test]
    fn a_peer_that_does_not_keep_up_gets_all_in_order_and_little_is_held() {
        let mut io = socket(0);
        let sent: Vec<u8> = (0..3 * LIMIT).map(|i| (i % 251) as u8).collect();
        let mut written = 0;
        while written < sent.len() {
            // Parts of growing size, some larger than what is gathered.
            let part = (written / 3 + 100).min(sent.len() - written);
            match write(&mut io, &sent[written..written + part]) {
                Poll::Ready(Ok(n)) => written += n,
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => io.0.borrow_mut().io.room = 7000,
            }
            assert!(io.0.borrow().buffer.len() <= LIMIT);
        }
        io.0.borrow_mut().io.room = usize::MAX;
        io.settle(&mut Context::from_waker(Waker::noop()));
        assert!(io.0.borrow().io.taken == sent);
    }

    #[test]
    fn the_codec_hears_of_a_broken_connection() {
        let mut io = socket(usize::MAX);
        assert!(write(&mut io, b"lost").is_ready());
        io.0.borrow_mut().io.broken = true;
        io.settle(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(write(&mut io, b"x"), Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe));
    }
}
