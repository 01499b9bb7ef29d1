//! Listening sockets follow the snapshot.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::accept::accept_loop;
use super::connections;
use crate::shared::{Drain, Shared};
use crate::snapshot::{Direction, Listener, Map, Snapshot};
use crate::telemetry::stats::{Counter, Gauge};
use crate::worker::{Worker, Workers};

/// Between two attempts to bind an address.
const RETRY: Duration = Duration::from_secs(1);
/// Between two log lines on one address that cannot be bound.
const LOG_AGAIN: Duration = Duration::from_secs(60);
/// The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Idle time before a connection is probed, and time between probes.
const KEEPALIVE: Duration = Duration::from_secs(180);

/// What other parts of the process may know of the listeners: readiness, addresses, open connections.
#[derive(Debug, Default)]
pub struct Listeners {
    ready: watch::Sender<bool>,
    bound: Mutex<Vec<Bound>>,
    active: [Gauge; 3],
    opened: Counter,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Listener that it belongs to.
    pub listener: Arc<str>,
    /// Address as configured.
    pub configured: SocketAddr,
    /// Address of the socket; another port when the configured one is 0.
    pub local: SocketAddr,
}

impl Listeners {
    /// True when every listener of the snapshot in force has its sockets; false before the first snapshot.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// All sockets.
    pub fn bound(&self) -> Vec<Bound> {
        self.bound.lock().clone()
    }

    /// Open connections of a direction.
    pub fn active(&self, direction: Direction) -> i64 {
        self.gauge(direction).get()
    }

    /// Connections that came since the start.
    pub fn opened(&self) -> u64 {
        self.opened.get()
    }

    pub(super) fn count(&self) -> &Counter {
        &self.opened
    }

    pub(super) fn gauge(&self, direction: Direction) -> &Gauge {
        &self.active[match direction {
            Direction::Unspecified => 0,
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        }]
    }
}

/// Starts to follow the snapshot: binds and closes sockets, spreads connections over the workers, and closes those that
/// policy forbids. Ends with [`Drain::Closing`].
pub fn start(shared: &Arc<Shared>, workers: &Workers) {
    for worker in workers.iter() {
        worker.spawn(connections::follow);
    }
    // One thread accepts for all: binding and closing then need no agreement, and connections go where the load is least.
    let (shared, all) = (shared.clone(), workers.clone());
    workers[0].spawn(move |worker| async move {
        Manager {
            shared,
            workers: all,
            worker,
            sockets: Map::default(),
            failing: Map::default(),
        }
        .run()
        .await;
    });
}

struct Manager {
    shared: Arc<Shared>,
    workers: Workers,
    worker: Rc<Worker>,
    sockets: Map<Key, OpenSocket>,
    /// When it was last logged that an address cannot be bound.
    failing: Map<Key, Instant>,
}

/// A socket outlives changes of the listener that it belongs to, and passes from one listener to another of the same
/// address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    transparent: bool,
    /// Only with port 0, which every listener gets for itself.
    name: Option<Arc<str>>,
}

struct OpenSocket {
    local: SocketAddr,
    owner: Rc<Mutex<Arc<str>>>,
    task: AbortHandle,
}

impl Manager {
    async fn run(mut self) {
        let mut changed = self.shared.changed.subscribe();
        let mut drain = self.shared.drain.subscribe();
        loop {
            changed.mark_unchanged();
            let snapshot = self.worker.snapshot();
            let complete = self.apply(&snapshot);
            self.publish(complete && snapshot.version > 0);
            drop(snapshot);
            tokio::select! {
                result = changed.changed() => if result.is_err() { break },
                () = tokio::time::sleep(RETRY), if !complete => {}
                closing = drain.wait_for(|d| *d == Drain::Closing) => {
                    drop(closing);
                    break;
                }
            }
        }
        for (_, socket) in self.sockets.drain() {
            socket.task.abort();
        }
        self.publish(false);
    }

    /// Brings the sockets in line with a snapshot. False when an address could not be bound.
    fn apply(&mut self, snapshot: &Snapshot) -> bool {
        let wanted = wanted(snapshot);
        self.sockets.retain(|key, socket| {
            let keep = wanted.contains_key(key);
            if !keep {
                tracing::info!(listener = %socket.owner.lock(), address = %socket.local, "no longer listening");
                socket.task.abort();
            }
            keep
        });
        self.failing.retain(|key, _| wanted.contains_key(key));
        let mut complete = true;
        for (key, listener) in wanted {
            if let Some(socket) = self.sockets.get(&key) {
                socket.owner.lock().clone_from(&listener.name);
                continue;
            }
            match bind(&key) {
                Ok((socket, local)) => {
                    tracing::info!(listener = %listener.name, address = %local, "listening");
                    self.failing.remove(&key);
                    self.open(key, socket, local, listener);
                }
                Err(error) => {
                    complete = false;
                    self.report(&key, listener, &error);
                }
            }
        }
        complete
    }

    fn open(&mut self, key: Key, socket: TcpListener, local: SocketAddr, listener: &Listener) {
        let owner = Rc::new(Mutex::new(listener.name.clone()));
        let accepting = accept_loop(socket, local, owner.clone(), self.workers.clone(), self.worker.clone());
        let task = tokio::task::spawn_local(accepting).abort_handle();
        self.sockets.insert(key, OpenSocket { local, owner, task });
    }

    fn report(&mut self, key: &Key, listener: &Listener, error: &io::Error) {
        let now = Instant::now();
        let known = self.failing.get(key);
        if known.is_some_and(|last| now.duration_since(*last) < LOG_AGAIN) {
            return;
        }
        self.failing.insert(key.clone(), now);
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "stop the program that has the port, or change the listener's address",
            io::ErrorKind::AddrNotAvailable => "this machine does not have the address",
            io::ErrorKind::PermissionDenied if key.transparent => "a transparent listener needs CAP_NET_ADMIN",
            io::ErrorKind::PermissionDenied => {
                "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
            }
            _ => "see the error",
        };
        tracing::error!(
            listener = %listener.name, address = %key.address,
            "cannot listen: {error}; {advice}. Trying again every second, the other listeners go on"
        );
    }

    fn publish(&self, ready: bool) {
        let mut bound: Vec<Bound> = self
            .sockets
            .iter()
            .map(|(key, socket)| Bound {
                listener: socket.owner.lock().clone(),
                configured: key.address,
                local: socket.local,
            })
            .collect();
        bound.sort_by(|a, b| (&a.listener, a.local).cmp(&(&b.listener, b.local)));
        *self.shared.listeners.bound.lock() = bound;
        if ready {
            self.shared.readiness.workers.store(true, Relaxed);
        }
        self.shared
            .listeners
            .ready
            .send_if_modified(|r| std::mem::replace(r, ready) != ready);
    }
}

/// Sockets that a snapshot asks for. Of two listeners with one address the first by name has it.
fn wanted(snapshot: &Snapshot) -> Map<Key, &Arc<Listener>> {
    let mut wanted: Map<Key, &Arc<Listener>> = Map::default();
    let mut listeners: Vec<_> = snapshot.listeners.values().filter(|l| l.bind_to_port).collect();
    listeners.sort_by(|a, b| a.name.cmp(&b.name));
    for listener in listeners {
        for address in &listener.addresses {
            let key = Key {
                address: *address,
                transparent: listener.transparent,
                name: (address.port() == 0).then(|| listener.name.clone()),
            };
            wanted.entry(key).or_insert(listener);
        }
    }
    wanted
}

fn bind(key: &Key) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(key.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    if key.address.is_ipv6() {
        // IPv4 has listeners of its own.
        socket.set_only_v6(true)?;
    }
    if key.transparent {
        match key.address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
    }
    // Accepted connections inherit both. Small writes must not wait for acknowledgements of earlier ones; and a caller that
    // vanished without a word is noticed after half an hour.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE)
            .with_retries(9),
    )?;
    socket.bind(&key.address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}
