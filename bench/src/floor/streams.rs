//! The floor for HTTP/2 (one connection to the upstream) and for TCP (bytes copied through one buffer each way).

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Result;
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder as Client, SendRequest};
use hyper::server::conn::http2::Builder as Server;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::pki::Wrap;
use crate::upstream::Local;

/// Envoy's default for a stream's window, and for a connection's in both directions.
const WINDOW: u32 = 16 << 20;
/// Of the copy each way.
const BLOCK: usize = 64 * 1024;

/// Forwards HTTP/2 until killed.
pub(crate) async fn http2(listener: TcpListener, to: SocketAddr, wrap: Wrap) -> Result<()> {
    let kept: Rc<RefCell<Option<SendRequest<Incoming>>>> = Rc::default();
    let wrap = Rc::new(wrap);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (kept, wrap) = (kept.clone(), wrap.clone());
        tokio::task::spawn_local(async move {
            let mut server = Server::new(Local);
            server
                .max_concurrent_streams(4096)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW);
            if let Ok(stream) = wrap.accept(stream).await {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (kept, wrap) = (kept.clone(), wrap.clone());
                    async move { forward(request, &kept, to, &wrap).await }
                });
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

async fn forward(
    mut request: Request<Incoming>,
    kept: &RefCell<Option<SendRequest<Incoming>>>,
    to: SocketAddr,
    wrap: &Wrap,
) -> Result<hyper::Response<Incoming>> {
    let ready = kept.borrow().clone().filter(|s| !s.is_closed());
    let mut sender = match ready {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let mut client = Client::new(Local);
            client
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW);
            let (sender, connection) = client.handshake(TokioIo::new(wrap.connect(stream).await?)).await?;
            tokio::task::spawn_local(connection);
            kept.replace(Some(sender.clone()));
            sender
        }
    };
    *request.version_mut() = http::Version::HTTP_2;
    sender.ready().await?;
    Ok(sender.send_request(request).await?)
}

/// Copies bytes until killed.
pub(crate) async fn tcp(listener: TcpListener, to: SocketAddr, wrap: Wrap) -> Result<()> {
    let wrap = Rc::new(wrap);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let wrap = wrap.clone();
        tokio::task::spawn_local(async move {
            let upstream = TcpStream::connect(to).await?;
            upstream.set_nodelay(true)?;
            let mut upstream = wrap.connect(upstream).await?;
            let mut stream = wrap.accept(stream).await?;
            tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut upstream, BLOCK, BLOCK).await
        });
    }
}
