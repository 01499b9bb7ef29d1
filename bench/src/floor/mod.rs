//! The floor: what a forwarder costs that decides nothing. hyper on a current-thread runtime, connections to the upstream
//! in a pool of the thread. No routes, no statistics, no limits: what a proxy costs above this is its own doing.

pub(crate) mod streams;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::pki::Wrap;

type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

/// Forwards HTTP/1.1 from a port to an address, until killed.
pub(crate) async fn http1(listener: TcpListener, to: SocketAddr, wrap: Wrap) -> Result<()> {
    let pool = Pool::default();
    let wrap = Rc::new(wrap);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (pool, wrap) = (pool.clone(), wrap.clone());
        tokio::task::spawn_local(async move {
            let forward = |wrap: Rc<Wrap>| hyper::service::service_fn(move |r| one(r, pool.clone(), to, wrap.clone()));
            let server = hyper::server::conn::http1::Builder::new();
            let _ = match wrap.accept(stream).await {
                Ok(stream) => server.serve_connection(TokioIo::new(stream), forward(wrap)).await,
                Err(_) => Ok(()),
            };
        });
    }
}

async fn one(request: Request<Incoming>, pool: Pool, to: SocketAddr, wrap: Rc<Wrap>) -> Result<Response<Back>> {
    let ready = {
        let mut pool = pool.borrow_mut();
        pool.retain(|s| !s.is_closed());
        let index = pool.iter().rposition(SendRequest::is_ready);
        index.map(|i| pool.swap_remove(i))
    };
    let mut sender = match ready {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(wrap.connect(stream).await?)).await?;
            tokio::task::spawn_local(connection);
            sender
        }
    };
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let sender = Some(sender);
    Ok(Response::from_parts(parts, Back { body, sender, pool }))
}

/// A body that gives its connection back at its end.
struct Back {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Pool,
}

impl Body for Back {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        self.pool.borrow_mut().extend(self.sender.take());
    }
}
