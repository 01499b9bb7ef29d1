//! What the copying has to know of a stream beside its bytes.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A stream of bytes that may be no more than a socket.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin {
    /// The socket, as long as all that is read and written is what it carries: no TLS, nothing read ahead. Then bytes may
    /// be moved past the stream.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    /// So many bytes were read from [`ByteStream::socket`] past the stream.
    fn read_past(&self, bytes: usize) {
        let _ = bytes;
    }

    /// So many bytes were written to [`ByteStream::socket`] past the stream.
    fn written_past(&self, bytes: usize) {
        let _ = bytes;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream for Box<tokio_rustls::server::TlsStream<S>> {}

/// A tunnel through HTTP: frames of HTTP/2, or bytes that came with the head.
impl ByteStream for TokioIo<Upgraded> {}

impl ByteStream for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

#[cfg(test)]
impl ByteStream for tokio::io::DuplexStream {}
