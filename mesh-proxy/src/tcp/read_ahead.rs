//! Larger reads below TLS: rustls asks for 4 KiB at a time where a socket has 64 and more.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::buffers;
use crate::wrap::writes_pass_through;

/// A stream that reads ahead once its reader was given all it has asked for. Small messages are read straight into the
/// reader's buffer, and between two bulks nothing is held.
#[derive(Debug)]
pub struct ReadAhead<S> {
    io: S,
    held: Option<(Box<[u8]>, Range<usize>)>,
    /// The last read gave the reader all it had room for: there may be more.
    more: bool,
}

impl<S> ReadAhead<S> {
    /// Nothing is read yet.
    pub fn new(io: S) -> Self {
        ReadAhead {
            io,
            held: None,
            more: false,
        }
    }

    /// The stream behind.
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    /// Reads as much as a buffer takes; holds it unless it is nothing.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = buffers::take();
        let mut free = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut free);
        let end = free.filled().len();
        if end > 0 {
            self.held = Some((buffer, 0..end));
        } else {
            buffers::give(buffer);
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.held.is_none() {
            if !me.more {
                let done = Pin::new(&mut me.io).poll_read(cx, buf);
                me.more = done.is_ready() && buf.remaining() == 0;
                return done;
            }
            ready!(me.poll_ahead(cx))?;
        }
        // Without anything held, the stream is at its end.
        me.more = false;
        if let Some((buffer, mut left)) = me.held.take() {
            let n = left.len().min(buf.remaining());
            buf.put_slice(&buffer[left.start..left.start + n]);
            left.start += n;
            me.more = buf.remaining() == 0;
            if left.start < left.end {
                me.held = Some((buffer, left));
            } else {
                buffers::give(buffer);
            }
        }
        Poll::Ready(Ok(()))
    }
}

writes_pass_through!(ReadAhead);

#[cfg(test)]
mod tests {
    use rand::{RngCore as _, SeedableRng as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_stay_in_order_whatever_the_reader_asks_for() {
        let mut sent = vec![0; 300_000];
        rand::rngs::StdRng::seed_from_u64(3).fill_bytes(&mut sent);
        let (mut writer, io) = tokio::io::duplex(100_000);
        let expected = sent.clone();
        let writing = tokio::spawn(async move { writer.write_all(&sent).await });
        let mut ahead = ReadAhead::new(io);
        let mut got = Vec::new();
        let mut chunk = [0; 4096];
        for size in [1, 4096, 100, 4096, 17].into_iter().cycle() {
            match ahead.read(&mut chunk[..size]).await.expect("open") {
                0 => break,
                n => got.extend_from_slice(&chunk[..n]),
            }
        }
        writing.await.expect("no panic").expect("written");
        assert!(got == expected, "the bytes differ");
        assert!(ahead.held.is_none());
    }
}
