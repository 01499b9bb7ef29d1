//! The bytes of an HTTP/1 connection, watched for heads that never end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::wrap::writes_pass_through;

/// Sets a flag when bytes come; all else goes straight through. The flag is shared by an `Arc`, as hyper wants streams that
/// could change their thread.
pub(super) struct Watched<S> {
    io: S,
    came: Arc<AtomicBool>,
}

impl<S> Watched<S> {
    pub(super) fn new(io: S, came: Arc<AtomicBool>) -> Self {
        Watched { io, came }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.came.store(true, Relaxed);
        }
        polled
    }
}

writes_pass_through!(Watched);
