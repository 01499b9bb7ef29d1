//! The DNS proxy of the pod: answers names of the mesh, forwards everything else.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use mesh_api::nds::NameTable;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use super::answer::{Action, answer, failure};
use super::forward::{forward, read_message, write_message};
use super::names::Names;
use super::resolv_conf::Watched;

/// Queries that wait for a nameserver, and open TCP connections. A pod that has more in flight is in trouble already, and
/// memory stays bounded.
const MAX_WAITING: usize = 512;
const MAX_CONNECTIONS: usize = 128;
/// Without a query on a TCP connection.
const TCP_IDLE: Duration = Duration::from_secs(10);
const MAX_UDP_QUERY: usize = 4096;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Where it listens and what it knows.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// `127.0.0.1:15053` (UDP and TCP); port 0 in tests.
    pub listen: Vec<SocketAddr>,
    /// `/etc/resolv.conf`: nameservers to forward to, search domains to expand by.
    pub resolv_conf: PathBuf,
    /// Forward to these instead of the nameservers of `resolv_conf`.
    pub upstreams: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Proxy {
    names: ArcSwap<Names>,
    conf: Watched,
    upstreams: Vec<SocketAddr>,
    /// Our own addresses: a nameserver among them would be a loop.
    own: Vec<SocketAddr>,
    waiting: Semaphore,
}

/// Opens the ports and serves by tasks on the current runtime until it ends. Returns the addresses it took.
///
/// # Errors
/// When a port cannot be opened or the resolver's file cannot be read; the message names it.
pub async fn start(options: ProxyOptions, table: watch::Receiver<Arc<NameTable>>) -> anyhow::Result<Vec<SocketAddr>> {
    let path = &options.resolv_conf;
    let conf = Watched::open(path).with_context(|| format!("DNS proxy: cannot read {}", path.display()))?;
    let mut sockets = Vec::new();
    for address in &options.listen {
        let message = || format!("DNS proxy: cannot listen on {address}");
        let (udp, tcp) = bind(*address).await.with_context(message)?;
        sockets.push((udp.local_addr()?, Arc::new(udp), tcp));
    }
    let own: Vec<SocketAddr> = sockets.iter().map(|(address, ..)| *address).collect();
    let proxy = Arc::new(Proxy {
        names: ArcSwap::default(),
        conf,
        upstreams: options.upstreams,
        own: own.clone(),
        waiting: Semaphore::new(MAX_WAITING),
    });
    proxy.take(&table.borrow());
    tokio::spawn(follow(Arc::clone(&proxy), table));
    for (_, udp, tcp) in sockets {
        tokio::spawn(serve_udp(Arc::clone(&proxy), udp));
        tokio::spawn(serve_tcp(Arc::clone(&proxy), tcp));
    }
    Ok(own)
}

/// UDP and TCP on one port. Port 0 is any that is free for both.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = if address.port() == 0 { 100 } else { 1 };
    loop {
        attempts -= 1;
        // TCP first: its ports are the scarcer ones, being those of connections too.
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if attempts == 0 || error.kind() != io::ErrorKind::AddrInUse => return Err(error),
            Err(_) => {}
        }
    }
}

async fn follow(proxy: Arc<Proxy>, mut table: watch::Receiver<Arc<NameTable>>) {
    // After the control plane is gone the last table stays in force.
    while table.changed().await.is_ok() {
        let now = Arc::clone(&table.borrow_and_update());
        proxy.take(&now);
    }
}

impl Proxy {
    fn take(&self, table: &NameTable) {
        let names = Names::new(table, &self.conf.get().search);
        self.names.store(Arc::new(names));
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let servers = if self.upstreams.is_empty() {
            self.conf.get().nameservers.clone()
        } else {
            self.upstreams.clone()
        };
        servers.into_iter().filter(|s| !self.own.contains(s)).collect()
    }

    async fn forward(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let Ok(_slot) = self.waiting.try_acquire() else {
            return failure(query);
        };
        match forward(query, &self.servers(), tcp).await {
            Some(answer) => Some(answer),
            None => failure(query),
        }
    }
}

async fn serve_udp(proxy: Arc<Proxy>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; MAX_UDP_QUERY];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // A client that has closed its port makes the next receive fail (ECONNREFUSED); that is no reason to end.
                tracing::debug!(%error, "DNS proxy: receive");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let query = &buffer[..length];
        match answer(query, &proxy.names.load(), true) {
            Action::Answer(bytes) => reply(&socket, &bytes, client).await,
            Action::Drop => {}
            Action::Forward => {
                let (proxy, socket, query) = (Arc::clone(&proxy), Arc::clone(&socket), query.to_vec());
                tokio::spawn(async move {
                    if let Some(bytes) = proxy.forward(&query, false).await {
                        reply(&socket, &bytes, client).await;
                    }
                });
            }
        }
    }
}

async fn reply(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "DNS proxy: answer not sent");
    }
}

async fn serve_tcp(proxy: Arc<Proxy>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "DNS proxy: cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            if let Err(error) = serve_stream(&proxy, socket).await {
                tracing::debug!(%error, "DNS proxy: connection ended");
            }
            drop(slot);
        });
    }
}

async fn serve_stream(proxy: &Proxy, mut socket: TcpStream) -> io::Result<()> {
    loop {
        let Ok(read) = tokio::time::timeout(TCP_IDLE, read_message(&mut socket)).await else {
            return Ok(());
        };
        let Some(query) = read? else { return Ok(()) };
        let action = answer(&query, &proxy.names.load(), false);
        let bytes = match action {
            Action::Answer(bytes) => Some(bytes),
            Action::Forward => proxy.forward(&query, true).await,
            Action::Drop => return Ok(()),
        };
        if let Some(bytes) = bytes {
            write_message(&mut socket, &bytes).await?;
        }
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
