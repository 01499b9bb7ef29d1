//! A connection to an upstream as a stream of bytes, with its statistics.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::ConnectOptions;
use crate::snapshot::{Cluster, ClusterState, Endpoint, EndpointState};
use crate::tcp::{ByteStream, ReadAhead};
use crate::telemetry::stats::ClusterStats;
use crate::tls::peer_uri;

/// A connection to an upstream.
#[derive(Debug)]
pub struct UpstreamIo {
    stream: Stream,
    /// Local address of the socket.
    pub local: Option<SocketAddr>,
    /// SPIFFE URI of the upstream's certificate.
    pub peer_uri: Option<Arc<str>>,
    guard: ConnectionGuard,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<ReadAhead<TcpStream>>>),
}

impl UpstreamIo {
    pub(super) fn plain(stream: TcpStream, guard: ConnectionGuard) -> Self {
        UpstreamIo {
            local: stream.local_addr().ok(),
            peer_uri: None,
            stream: Stream::Plain(stream),
            guard,
        }
    }

    pub(super) fn tls(stream: TlsStream<ReadAhead<TcpStream>>, guard: ConnectionGuard) -> Self {
        UpstreamIo {
            local: stream.get_ref().0.get_ref().local_addr().ok(),
            peer_uri: peer_uri(stream.get_ref().1),
            stream: Stream::Tls(Box::new(stream)),
            guard,
        }
    }

    /// Protocol that was agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// Whether bytes are encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buf.filled().len();
        let done = match &mut me.stream {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        };
        let read = buf.filled().len() - before;
        if read > 0 {
            me.guard.stats.upstream_cx_rx_bytes_total.add(read as u64);
        }
        done
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let done = match &mut me.stream {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
        };
        me.guard.sent(&done);
        done
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let done = match &mut me.stream {
            Stream::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Stream::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        };
        me.guard.sent(&done);
        done
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(s) => s.is_write_vectored(),
            Stream::Tls(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl ByteStream for UpstreamIo {
    fn socket(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Plain(s) => Some(s),
            Stream::Tls(_) => None,
        }
    }

    fn read_past(&self, bytes: usize) {
        self.guard.stats.upstream_cx_rx_bytes_total.add(bytes as u64);
    }

    fn written_past(&self, bytes: usize) {
        self.guard.stats.upstream_cx_tx_bytes_total.add(bytes as u64);
    }
}

/// Counts a connection from the attempt to open it until it is gone, however it goes.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    pub(super) stats: Arc<ClusterStats>,
    cluster: Arc<ClusterState>,
    endpoint: Arc<EndpointState>,
}

impl ConnectionGuard {
    /// `None` when the cluster has as many connections as it may.
    pub(super) fn new(cluster: &Cluster, endpoint: &Endpoint, options: ConnectOptions<'_>) -> Option<Self> {
        let limit = cluster.limits.max_connections;
        let more = |open: u32| (options.force || open < limit).then_some(open.saturating_add(1));
        let open = cluster.state.connections.fetch_update(SeqCst, SeqCst, more);
        // As in Envoy, also when the connection is made all the same.
        if !options.again && open.unwrap_or(limit) >= limit {
            cluster.stats.upstream_cx_overflow.inc();
        }
        open.ok()?;
        cluster.stats.upstream_cx_total.inc();
        cluster.stats.upstream_cx_active.inc();
        endpoint.state.connections.fetch_add(1, Relaxed);
        endpoint.state.connections_total.fetch_add(1, Relaxed);
        Some(ConnectionGuard {
            stats: cluster.stats.clone(),
            cluster: cluster.state.clone(),
            endpoint: endpoint.state.clone(),
        })
    }

    pub(super) fn failed(&self) {
        self.stats.upstream_cx_connect_fail.inc();
        self.endpoint.connect_failures.fetch_add(1, Relaxed);
    }

    fn sent(&self, done: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = done {
            self.stats.upstream_cx_tx_bytes_total.add(*n as u64);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.cluster.connection_ended();
        self.endpoint.connections.fetch_sub(1, Relaxed);
        self.stats.upstream_cx_active.dec();
    }
}
