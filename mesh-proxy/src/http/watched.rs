//! The bytes of a caller's connection, watched for heads that never end and for the caller's end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::wrap::writes_pass_through;

/// What reading has shown. Shared by an `Arc`, as hyper wants streams that could change their thread.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Bytes have come that belong to no stream yet (HTTP/1).
    unclaimed: AtomicBool,
    /// The caller has closed the connection, or its side of it.
    ended: AtomicBool,
}

impl Watch {
    pub(super) fn is_unclaimed(&self) -> bool {
        self.unclaimed.load(Relaxed)
    }

    /// All that has come belongs to a stream.
    pub(super) fn claim(&self) {
        self.unclaimed.store(false, Relaxed);
    }

    /// Whether it was the caller who ended the connection.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}

/// Notes what is read; all else goes straight through.
pub(super) struct Watched<S> {
    io: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    pub(super) fn new(io: S, watch: Arc<Watch>) -> Self {
        Watched { io, watch }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.unclaimed.store(true, Relaxed);
        } else if polled.is_ready() && buf.remaining() > 0 {
            self.watch.ended.store(true, Relaxed);
        }
        polled
    }
}

writes_pass_through!(Watched);
