//! Opaque TCP.

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::listener::ConnInfo;
use crate::snapshot::TcpProxy;
use crate::worker::Worker;

/// Serves one downstream connection until it ends.
pub async fn serve_connection<I>(io: I, conn: Rc<ConnInfo>, proxy: Arc<TcpProxy>, worker: Rc<Worker>)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let _ = (io, conn, proxy, worker);
}
