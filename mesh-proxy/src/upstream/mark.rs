//! Packet mark of the proxy's own traffic, for namespaces in which it cannot have a user of its own: the capture rules
//! (`mesh-init --proxy-mark`) tell it by the mark then.

use std::io;
use std::os::fd::AsFd;
use std::sync::LazyLock;

use socket2::SockRef;

const VARIABLE: &str = "FERROMESH_PACKET_MARK";

static MARK: LazyLock<Result<Option<u32>, String>> = LazyLock::new(|| match std::env::var(VARIABLE) {
    Err(_) => Ok(None),
    Ok(text) => text
        .parse()
        .map(Some)
        .map_err(|_| format!("{VARIABLE}={text:?} is no packet mark")),
});

/// Marks a socket before it connects, if the environment asks for it.
///
/// # Errors
/// When the variable is no number, or the kernel refuses (it wants CAP_NET_ADMIN).
pub(crate) fn mark(socket: &impl AsFd) -> io::Result<()> {
    match &*MARK {
        Ok(None) => Ok(()),
        Ok(Some(mark)) => SockRef::from(socket).set_mark(*mark),
        Err(message) => Err(io::Error::new(io::ErrorKind::InvalidInput, message.as_str())),
    }
}
