//! Peer metadata on opaque TCP: two proxies that agreed on ALPN `istio-peer-exchange` each send a prefix with what they
//! know of their workload. The application on either side never sees it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::stream::ByteStream;
use crate::telemetry::peer::{Peer, TcpPrefix, decode_tcp};

/// Whether the other side's metadata is known.
#[derive(Debug, Default)]
pub(super) struct PeerSlot {
    peer: RefCell<Option<Arc<Peer>>>,
    settled: Notify,
}

impl PeerSlot {
    /// Waits until the prefix has been read, or it is known that there is none.
    pub(super) async fn settled(&self) {
        self.settled.notified().await;
    }

    /// The peer, when it said who it is.
    pub(super) fn get(&self) -> Option<Arc<Peer>> {
        self.peer.borrow().clone()
    }

    fn settle(&self, peer: Option<Arc<Peer>>) {
        *self.peer.borrow_mut() = peer;
        self.settled.notify_one();
    }
}

/// A stream that takes the prefix off what is read.
#[derive(Debug)]
pub(super) struct Exchanged<S> {
    io: S,
    /// Bytes read while looking for the prefix.
    buffer: BytesMut,
    slot: Option<Rc<PeerSlot>>,
}

impl<S> Exchanged<S> {
    /// `slot` for a connection on which the prefix is due; without, bytes pass as they are.
    pub(super) fn new(io: S, slot: Option<Rc<PeerSlot>>) -> Self {
        Exchanged {
            io,
            buffer: BytesMut::new(),
            slot,
        }
    }
}

impl<S: AsyncRead + Unpin> Exchanged<S> {
    /// Reads until the prefix is off or known to be missing.
    fn poll_prefix(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(slot) = &self.slot {
            let mut chunk = [0; 2048];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            let ended = read.filled().is_empty();
            self.buffer.extend_from_slice(read.filled());
            match decode_tcp(&self.buffer) {
                TcpPrefix::Partial if !ended => continue,
                // The end of the stream in the midst of the prefix: the fragment is not the application's.
                TcpPrefix::Partial => {
                    self.buffer.clear();
                    slot.settle(None);
                }
                TcpPrefix::None => slot.settle(None),
                TcpPrefix::Read(length, peer) => {
                    self.buffer.advance(length);
                    slot.settle(peer);
                }
                TcpPrefix::TooLong(length) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("the peer announces {length} bytes of metadata, more than is believed"),
                    )));
                }
            }
            self.slot = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Exchanged<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.slot.is_some() {
            ready!(me.poll_prefix(cx))?;
        }
        if me.buffer.is_empty() {
            return Pin::new(&mut me.io).poll_read(cx, buf);
        }
        let n = me.buffer.len().min(buf.remaining());
        buf.put_slice(&me.buffer[..n]);
        me.buffer.advance(n);
        if me.buffer.is_empty() {
            me.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Exchanged<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S: ByteStream> ByteStream for Exchanged<S> {
    fn socket(&self) -> Option<&TcpStream> {
        self.io
            .socket()
            .filter(|_| self.slot.is_none() && self.buffer.is_empty())
    }

    fn read_past(&self, bytes: usize) {
        self.io.read_past(bytes);
    }

    fn written_past(&self, bytes: usize) {
        self.io.written_past(bytes);
    }
}
