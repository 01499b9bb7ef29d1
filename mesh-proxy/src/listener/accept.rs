//! A new connection gets a worker, its original destination and its listener.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::serve;
use crate::snapshot::{Listener, Snapshot};
use crate::worker::{LoadGuard, Worker, Workers};

/// Pause after an error of `accept`, such as no free file descriptors: it would come back at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two lines about that.
const LOG_AGAIN: Duration = Duration::from_secs(10);

/// An accepted connection on its worker.
pub(super) struct NewConnection {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
    /// Name of the listener that the socket belongs to now.
    pub(super) owner: Arc<str>,
    /// Port of the listening socket.
    pub(super) bound_port: u16,
    pub(super) load: LoadGuard,
}

/// Accepts on one socket until the task is dropped. `owner` is the name of the listener that it belongs to.
pub(super) async fn accept_loop(
    socket: TcpListener,
    bound: SocketAddr,
    owner: Rc<Mutex<Arc<str>>>,
    workers: Workers,
    worker: Rc<Worker>,
) {
    let mut logged: Option<Instant> = None;
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                let owner = owner.lock().clone();
                dispatch(stream, remote, owner, bound.port(), &workers, &worker);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if logged.is_none_or(|last| last.elapsed() > LOG_AGAIN) {
                    logged = Some(Instant::now());
                    let listener = owner.lock().clone();
                    tracing::error!(
                        %listener, address = %bound,
                        "cannot accept connections: {error}; if there are too many open files, raise the limit (ulimit -n)"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The caller went away before it was accepted.
fn is_about_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

fn dispatch(
    stream: TcpStream,
    remote: SocketAddr,
    owner: Arc<str>,
    bound_port: u16,
    workers: &Workers,
    here: &Rc<Worker>,
) {
    let target = workers.least_loaded();
    let load = target.take();
    let connection = move |stream| NewConnection {
        stream,
        remote,
        owner,
        bound_port,
        load,
    };
    if target.id() == here.id {
        serve::spawn(connection(stream), here);
        return;
    }
    // The socket leaves this thread's reactor and joins the other's.
    if let Ok(stream) = stream.into_std() {
        target.spawn(move |worker| async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serve::spawn(connection(stream), &worker),
                Err(error) => tracing::error!(%remote, "cannot take a connection over to its worker: {error}"),
            }
        });
    }
}

/// Where the caller was going. With TPROXY (`transparent`) the socket's own address says so; with REDIRECT the kernel
/// remembers, and has nothing to say of connections that were not captured.
pub(super) fn original_destination(stream: &TcpStream, listener: &Listener, local: SocketAddr) -> SocketAddr {
    if listener.transparent || !(listener.use_original_dst || listener.inspectors.original_dst) {
        return local;
    }
    let socket = SockRef::from(stream);
    let asked = if local.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    asked.ok().and_then(|address| address.as_socket()).unwrap_or(local)
}

/// The listener that serves the connection: the one of its original destination where there is one.
pub(super) fn hand_over(
    worker: &Worker,
    snapshot: &Snapshot,
    listener: Arc<Listener>,
    destination: SocketAddr,
    bound_port: u16,
) -> Arc<Listener> {
    if !listener.use_original_dst || destination.port() == bound_port {
        return listener;
    }
    let found = worker.connections.listener_of(snapshot, destination);
    found.unwrap_or(listener)
}
