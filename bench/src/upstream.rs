//! The upstream of all cases: as cheap as can be, since it shares a core with the load.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The largest answer that a path may ask for.
const LARGEST: usize = 1 << 20;
/// Bytes moved at once on TCP.
const BLOCK: usize = 64 * 1024;

/// Addresses of the upstream's servers, once it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstream {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) tcp: SocketAddr,
}

impl Upstream {
    /// Starts it on a thread of its own, which is pinned as the calling thread is.
    pub(crate) fn start() -> Result<Self> {
        let bind = || -> Result<std::net::TcpListener> {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let (one, two, tcp) = (bind()?, bind()?, bind()?);
        let addresses = Self {
            http1: one.local_addr()?,
            http2: two.local_addr()?,
            tcp: tcp.local_addr()?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, async {
                tokio::join!(
                    accept(one, |s| async move { http1(s).await }),
                    accept(two, http2),
                    accept(tcp, |s| async move { raw(s).await })
                );
            });
        })?;
        Ok(addresses)
    }
}

async fn accept<F>(listener: std::net::TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = Result<()>> + 'static,
{
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        // Out of descriptors, say: the load reports the failed requests.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let serving = serve(stream);
        tokio::task::spawn_local(async move {
            let _ = serving.await;
        });
    }
}

/// Requests without a body, parsed no further than needed: the path `/b/N` is answered with N bytes.
async fn http1(mut stream: TcpStream) -> Result<()> {
    let mut input = BytesMut::with_capacity(8 * 1024);
    let mut known: Option<(usize, Bytes)> = None;
    loop {
        while let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = input.split_to(end + 4);
            let path = head[..].split(|b| *b == b' ').nth(1).unwrap_or_default();
            let size = size_of(&String::from_utf8_lossy(path));
            let answer = match &known {
                Some((s, answer)) if *s == size => answer.clone(),
                _ => {
                    let mut answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: app\r\ncontent-length: {size}\r\n\r\n"
                    )
                    .into_bytes();
                    answer.resize(answer.len() + size, b'x');
                    known.insert((size, answer.into())).1.clone()
                }
            };
            stream.write_all(&answer).await?;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// The N of a path `/b/N`.
fn size_of(path: &str) -> usize {
    let number = path.strip_prefix("/b/").unwrap_or_default();
    number.parse().unwrap_or(0).min(LARGEST)
}

type Answer = http_body_util::combinators::UnsyncBoxBody<Bytes, hyper::Error>;

async fn http2(stream: TcpStream) -> Result<()> {
    let body = Rc::new(Bytes::from(vec![b'x'; LARGEST]));
    let service = service_fn(move |request: Request<Incoming>| {
        let body = body.clone();
        async move { Ok::<_, hyper::Error>(answer(request, &body)) }
    });
    hyper::server::conn::http2::Builder::new(Local)
        .max_concurrent_streams(4096)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

/// gRPC: what comes goes back, message for message, with the status in a trailer. Else the bytes that the path asks for.
fn answer(request: Request<Incoming>, body: &Bytes) -> Response<Answer> {
    let grpc = request
        .headers()
        .get("content-type")
        .is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"));
    let response = Response::builder().header("server", "app");
    if grpc {
        let status = || async {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            Some(Ok(trailers))
        };
        let echo = request
            .into_body()
            .map_frame(|f| f.into_data().map_or_else(|_| Frame::data(Bytes::new()), Frame::data));
        return response
            .header("content-type", "application/grpc")
            .body(echo.with_trailers(status()).boxed_unsync())
            .unwrap_or_default();
    }
    let size = size_of(request.uri().path());
    response
        .header("content-type", "text/plain")
        .body(Full::new(body.slice(..size)).map_err(|e| match e {}).boxed_unsync())
        .unwrap_or_default()
}

/// Spawns on the thread's own set.
#[derive(Clone, Copy)]
pub(crate) struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// What a TCP connection shall do, said in its first byte; for `SOURCE` and `SINK` a count of bytes follows.
pub(crate) const ECHO: u8 = b'e';
/// Sends so many bytes.
pub(crate) const SOURCE: u8 = b's';
/// Takes so many bytes, and answers with one.
pub(crate) const SINK: u8 = b'k';

async fn raw(mut stream: TcpStream) -> Result<()> {
    let what = stream.read_u8().await?;
    let mut block = vec![0; BLOCK];
    if what == ECHO {
        loop {
            match stream.read(&mut block).await? {
                0 => return Ok(()),
                n => stream.write_all(&block[..n]).await?,
            }
        }
    }
    let mut left = usize::try_from(stream.read_u64().await?)?;
    while left > 0 {
        let n = left.min(BLOCK);
        left -= if what == SOURCE {
            stream.write_all(&block[..n]).await?;
            n
        } else {
            match stream.read(&mut block[..n]).await? {
                0 => return Ok(()),
                n => n,
            }
        };
    }
    if what == SINK {
        stream.write_all(&[1]).await?;
    }
    // Leaves the closing to the client, so that nothing is cut off.
    while stream.read(&mut block).await? > 0 {}
    Ok(())
}
