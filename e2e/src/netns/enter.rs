//! Work inside a network namespace from this process. Only a thread of its own changes; sockets that it makes stay in the
//! namespace wherever they are used afterwards.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// Runs a function on a thread inside the namespace.
///
/// # Errors
/// When the namespace cannot be entered, or the function panics.
pub fn inside<T: Send + 'static>(namespace: &Path, action: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let file = std::fs::File::open(namespace).with_context(|| format!("network namespace {}", namespace.display()))?;
    let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
        Ok(action())
    })?;
    thread.join().map_err(|_| anyhow!("a thread in a namespace panicked"))?
}

/// Connects from inside a namespace.
///
/// # Errors
/// When the namespace cannot be entered or the connection fails.
pub fn connect(namespace: Option<&Path>, to: SocketAddr, timeout: Duration) -> Result<TcpStream> {
    let connect = move || TcpStream::connect_timeout(&to, timeout).with_context(|| format!("connection to {to}"));
    match namespace {
        Some(path) => inside(path, connect)?,
        None => connect(),
    }
}

/// Binds a datagram socket inside a namespace.
///
/// # Errors
/// When the namespace cannot be entered or the address is in use.
pub fn bind_udp(namespace: &Path, address: SocketAddr) -> Result<UdpSocket> {
    inside(namespace, move || UdpSocket::bind(address))?.with_context(|| format!("UDP socket {address}"))
}
