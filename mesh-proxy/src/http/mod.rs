//! HTTP: the connection manager, route matching, the router.

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::listener::ConnInfo;
use crate::snapshot::HttpConnectionManager;
use crate::worker::Worker;

/// Serves one downstream connection until it ends.
///
/// `io` is the plaintext side (after TLS termination, with inspected bytes put back).
pub async fn serve_connection<I>(io: I, conn: Rc<ConnInfo>, manager: Arc<HttpConnectionManager>, worker: Rc<Worker>)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let _ = (io, conn, manager, worker);
}
