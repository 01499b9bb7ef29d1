//! Proof that the pod's traffic is captured: the proxy connects to an address at which nobody listens, and which the rules
//! lead to its own inbound listener. Where that connection does not arrive, neither does what others send to the application.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::shared::Shared;
use crate::upstream::mark::mark;

/// All of it is within the pod; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the accepting side and the connecting side share.
#[derive(Debug, Default)]
pub struct Proof {
    /// Port from which the present attempt comes, 0 for none.
    expected: AtomicU16,
    /// Port of the attempt that arrived last.
    arrived: watch::Sender<u16>,
}

impl Proof {
    /// Whether a new connection is the expected one. It has served its purpose then.
    pub(super) fn takes(&self, remote: SocketAddr) -> bool {
        let expected = self.expected.load(Relaxed);
        if expected == 0 || remote.port() != expected || !remote.ip().to_canonical().is_loopback() {
            return false;
        }
        self.arrived.send_replace(expected);
        true
    }
}

/// Istio's address of the proxy towards its own application, in a pod of this family. What comes from it is not captured;
/// what the proxy sends to it is led to the inbound listener.
pub fn passthrough_address(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => Ipv4Addr::new(127, 0, 0, 6).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
    }
}

/// One attempt.
///
/// # Errors
/// Why the connection did not arrive at a listener of this proxy.
pub async fn prove(shared: &Shared, goal: SocketAddr) -> Result<(), String> {
    let proof = &shared.capture;
    let mut arrived = proof.arrived.subscribe();
    let attempt = async {
        let (socket, own): (_, IpAddr) = if goal.is_ipv4() {
            (TcpSocket::new_v4()?, Ipv4Addr::LOCALHOST.into())
        } else {
            (TcpSocket::new_v6()?, Ipv6Addr::LOCALHOST.into())
        };
        mark(&socket)?;
        socket.bind(SocketAddr::new(own, 0))?;
        let port = socket.local_addr()?.port();
        proof.expected.store(port, Relaxed);
        let stream = socket.connect(goal).await?;
        // The sender lives as long as `shared`.
        let _ = arrived.wait_for(|last| *last == port).await;
        drop(stream);
        Ok::<_, std::io::Error>(())
    };
    let done = tokio::time::timeout(PATIENCE, attempt).await;
    proof.expected.store(0, Relaxed);
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("a connection to {goal} was not led to the proxy: {error}")),
        Err(_) => Err(format!(
            "a connection to {goal} did not come to the proxy within {PATIENCE:?}"
        )),
    }
}
