//! `--run-validation`: proof that the rules are in force. A connection of the proxy's user to an address of loopback at which
//! nobody listens has to arrive at the port to which inbound traffic is captured, and the kernel has to remember where it
//! was going.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Config, Owner};

/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(200);
/// Between two looks at the listening socket.
const LOOK: Duration = Duration::from_millis(5);

/// Why capture could not be proven.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The rules are not there, or lead elsewhere.
    #[error(
        "this pod's traffic is not captured: {why}. Where a node agent (istio-cni-node) sets up pods, see whether it runs on \
         this node and what its log says; else look at the log of istio-init"
    )]
    NotCaptured {
        /// What was seen.
        why: String,
    },
    /// The check itself cannot be made.
    #[error("capture cannot be checked: {why}")]
    Impossible {
        /// Cause.
        why: String,
    },
}

/// How to check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Port to connect to, `--iptables-probe-port`.
    pub port: u16,
    /// Time for all attempts, `--probe-timeout`.
    pub timeout: Duration,
}

/// Tries until capture is proven in each family that has rules, or the time is over.
///
/// # Errors
/// When it is not, and when the check cannot be made.
pub fn validate(config: &Config, check: Check) -> Result<(), ValidateError> {
    let mark = become_owner(config)?;
    let v6 = config.ipv6.then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
    for own in std::iter::once(IpAddr::V4(Ipv4Addr::LOCALHOST)).chain(v6) {
        let end = Instant::now() + check.timeout;
        let listener = listen(SocketAddr::new(own, config.inbound_port))?;
        loop {
            match attempt(&listener, own, check.port, mark, end) {
                Ok(()) => break,
                Err(why) if Instant::now() >= end => return Err(ValidateError::NotCaptured { why }),
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }
    Ok(())
}

/// Istio's address of the proxy towards its own application.
fn goal_of(own: IpAddr, port: u16) -> SocketAddr {
    match own {
        IpAddr::V4(_) => (Ipv4Addr::new(127, 0, 0, 6), port).into(),
        IpAddr::V6(_) => (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6), port).into(),
    }
}

/// The rules tell the proxy's own packets by the first user; only those are captured on loopback. Gives the mark to set
/// where they are told by one.
fn become_owner(config: &Config) -> Result<Option<u32>, ValidateError> {
    let Some(owner) = config.owners.first() else {
        return Err(ValidateError::Impossible {
            why: "no owner of the proxy's packets is known (--proxy-uid)".to_owned(),
        });
    };
    let taken = match *owner {
        Owner::Mark(mark) => return Ok(Some(mark)),
        Owner::Uid(uid) if geteuid().as_raw() == uid => true,
        Owner::Gid(gid) if getegid().as_raw() == gid => true,
        Owner::Uid(uid) => {
            // It says nothing about its success; asked twice it tells what the first time did.
            setfsuid(Uid::from_raw(uid));
            setfsuid(Uid::from_raw(uid)).as_raw() == uid
        }
        Owner::Gid(gid) => {
            setfsgid(Gid::from_raw(gid));
            setfsgid(Gid::from_raw(gid)).as_raw() == gid
        }
    };
    if taken {
        return Ok(None);
    }
    let (flag, id) = match *owner {
        Owner::Gid(gid) => ("runAsGroup", gid),
        Owner::Uid(id) | Owner::Mark(id) => ("runAsUser", id),
    };
    Err(ValidateError::Impossible {
        why: format!(
            "only packets of the proxy show it, and this program may not act for it: run it with {flag} {id}, or with the \
             capabilities SETUID and SETGID"
        ),
    })
}

fn listen(at: SocketAddr) -> Result<Socket, ValidateError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        socket.listen(16)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    open().map_err(|error: io::Error| ValidateError::Impossible {
        why: match error.kind() {
            io::ErrorKind::AddrInUse => format!("{at} is in use; the check belongs before the proxy's start"),
            _ => format!("cannot listen on {at}: {error}"),
        },
    })
}

/// One connection, and a look at where it ended.
fn attempt(listener: &Socket, own: IpAddr, port: u16, mark: Option<u32>, end: Instant) -> Result<(), String> {
    let goal = goal_of(own, port);
    let left = end.saturating_duration_since(Instant::now()).max(AGAIN);
    let connect = || {
        let socket = Socket::new(Domain::for_address(goal), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        socket.bind(&SocketAddr::new(own, 0).into())?;
        socket.connect_timeout(&goal.into(), left)?;
        let from = socket.local_addr()?;
        Ok((socket, from.as_socket()))
    };
    let (socket, from) = connect()
        .map_err(|error: io::Error| format!("a connection to {goal} was not led to the proxy's port: {error}"))?;
    loop {
        match listener.accept() {
            Ok((accepted, peer)) if peer.as_socket() == from => {
                drop(socket);
                return remembered(&accepted, goal);
            }
            // Somebody else's.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => std::thread::sleep(LOOK),
            Err(_) => return Err(format!("a connection to {goal} ended at somebody else's port")),
        }
    }
}

fn remembered(accepted: &Socket, goal: SocketAddr) -> Result<(), String> {
    let asked = if goal.is_ipv4() {
        accepted.original_dst_v4()
    } else {
        accepted.original_dst_v6()
    };
    match asked.map(|address| address.as_socket()) {
        Ok(Some(address)) if address == goal => Ok(()),
        Ok(other) => Err(format!(
            "a connection to {goal} came with {} as its destination",
            other.map_or_else(|| "nothing".to_owned(), |a| a.to_string())
        )),
        Err(error) => Err(format!(
            "the kernel does not say where a connection to {goal} was going: {error}"
        )),
    }
}
