//! Where something listens that is in no cluster: at an address, or on the loopback of a network namespace.

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http::{HeaderValue, Method};
use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::Reply;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";
/// Before the name of a namespace.
const NETNS: &str = "netns:";

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `HOST:PORT`.
    Of(String),
    /// A port on the loopback of a network namespace: pods of a mesh without Kubernetes are such.
    Inside {
        /// Its name, as `ip netns list` has it.
        namespace: String,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Of(address) => f.write_str(address),
            Address::Inside { namespace, .. } => write!(f, "{NETNS}{namespace}"),
        }
    }
}

impl Address {
    /// A port of this machine.
    pub(crate) fn local(port: u16) -> Self {
        Address::Of(format!("127.0.0.1:{port}"))
    }

    /// `netns:NAME`, or `HOST:PORT` as people write it: with `http://` before, a slash behind, or without the port.
    pub(crate) fn parse(text: &str, usual: u16) -> Result<Self, String> {
        let help = || format!("{text:?} is no address; write HOST:PORT, such as 127.0.0.1:{usual}, or netns:NAME");
        if let Some(name) = text.strip_prefix(NETNS) {
            let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
            let namespace = plain.then(|| name.to_owned()).ok_or_else(help)?;
            return Ok(Address::Inside { namespace, port: usual });
        }
        let inner = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let complete = match inner.rsplit_once(':') {
            // The colons of an IPv6 address in brackets are its own.
            Some((_, rest)) if rest.ends_with(']') => format!("{inner}:{usual}"),
            None => format!("{inner}:{usual}"),
            Some(_) => inner.to_owned(),
        };
        let authority: http::uri::Authority = complete.parse().map_err(|_| help())?;
        match (authority.host(), authority.port_u16()) {
            ("", _) | (_, None) => Err(help()),
            _ => Ok(Address::Of(complete)),
        }
    }

    /// Asks for a page; `token` proves who asks.
    pub(crate) async fn ask(&self, method: Method, path: &str, token: Option<&HeaderValue>) -> Result<Reply> {
        let stream = timeout(CONNECT, self.connect());
        let stream = stream.await.context("no connection in time")??;
        let host = match self {
            Address::Of(address) => address.clone(),
            Address::Inside { port, .. } => format!("localhost:{port}"),
        };
        crate::http::ask(stream, method, &host, path, token).await
    }

    async fn connect(&self) -> Result<TcpStream> {
        match self {
            Address::Of(address) => Ok(TcpStream::connect(address).await?),
            Address::Inside { namespace, port } => {
                let stream = inside(namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))?;
                stream.set_nonblocking(true)?;
                Ok(TcpStream::from_std(stream)?)
            }
        }
    }
}

/// Connects on a thread of its own, which alone enters the namespace; the socket stays in it.
fn inside(namespace: &str, to: SocketAddr) -> Result<std::net::TcpStream> {
    let path = Path::new(NAMESPACES).join(namespace);
    let file =
        File::open(&path).with_context(|| format!("there is no network namespace {namespace} (`ip netns list`)"))?;
    let thread = std::thread::spawn(move || {
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET).context("it cannot be entered; are you root?")?;
        std::net::TcpStream::connect_timeout(&to, CONNECT).with_context(|| format!("nobody listens on {to} in it"))
    });
    thread.join().map_err(|_| anyhow!("the thread in it ended"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (text, expected) in [
            ("127.0.0.1:15000", "127.0.0.1:15000"),
            ("http://127.0.0.1:1/", "127.0.0.1:1"),
            ("localhost", "localhost:15000"),
            ("[::1]", "[::1]:15000"),
            ("[::1]:7", "[::1]:7"),
            ("netns:fm-1-web", "netns:fm-1-web"),
        ] {
            let address = Address::parse(text, 15000).map(|a| a.to_string());
            assert_eq!(address.as_deref(), Ok(expected), "{text}");
        }
        for bad in [
            "",
            ":15000",
            "a b",
            "host:port",
            "host:99999",
            "https://a",
            "a/b",
            "netns:",
            "netns:../x",
        ] {
            assert!(Address::parse(bad, 15000).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_namespace_that_is_not_there_is_named() {
        let address = Address::parse("netns:none-such", 15000).expect("an address");
        let error = address.ask(Method::GET, "/", None).await.expect_err("nobody");
        assert!(
            format!("{error:#}").contains("no network namespace none-such"),
            "{error:#}"
        );
    }
}
