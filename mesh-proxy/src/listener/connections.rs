//! Open connections of one worker, and what becomes of them when configuration changes or the proxy shuts down.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::ConnInfo;
use crate::shared::Drain;
use crate::snapshot::{Listener, Map, Snapshot};
use crate::worker::Worker;

/// So many lines about refused callers
const LOG_LINES: u32 = 10;
/// in so much time.
const LOG_TIME: Duration = Duration::from_secs(1);

/// Open connections of one worker, with what the worker caches for accepting them.
#[derive(Debug, Default)]
pub struct Connections {
    next: Cell<u64>,
    open: RefCell<Map<u64, Entry>>,
    by_address: RefCell<ByAddress>,
    /// Since when lines are counted, and how many there were.
    logged: Cell<Option<(Instant, u32)>>,
}

#[derive(Debug)]
struct Entry {
    /// Ends the task, which drops the sockets.
    task: AbortHandle,
    /// `None` while it has no filter chain yet.
    conn: Option<Rc<ConnInfo>>,
}

/// Listeners of one snapshot by their addresses.
#[derive(Debug, Default)]
struct ByAddress {
    version: u64,
    listeners: Map<SocketAddr, Arc<Listener>>,
}

impl Connections {
    /// Number of the next connection.
    pub(super) fn next_id(&self) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        id
    }

    pub(super) fn insert(&self, id: u64, task: AbortHandle) {
        self.open.borrow_mut().insert(id, Entry { task, conn: None });
    }

    /// From now on a change of configuration is held against the connection.
    pub(super) fn established(&self, id: u64, conn: &Rc<ConnInfo>) {
        if let Some(entry) = self.open.borrow_mut().get_mut(&id) {
            entry.conn = Some(conn.clone());
        }
    }

    pub(super) fn remove(&self, id: u64) {
        self.open.borrow_mut().remove(&id);
    }

    /// Some lines a second about callers that were refused; all of them are counted, and logged at debug level.
    pub(super) fn may_log(&self) -> bool {
        let now = Instant::now();
        let (since, lines) = match self.logged.get() {
            Some((since, lines)) if now.duration_since(since) < LOG_TIME => (since, lines),
            _ => (now, 0),
        };
        self.logged.set(Some((since, lines + 1)));
        lines < LOG_LINES
    }

    /// Connections that are open on this worker.
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The listener of an original destination: its own address, else the wildcard of its port.
    pub(super) fn listener_of(&self, snapshot: &Snapshot, destination: SocketAddr) -> Option<Arc<Listener>> {
        let mut index = self.by_address.borrow_mut();
        if index.version != snapshot.version {
            *index = ByAddress::new(snapshot);
        }
        let mut wildcard = destination;
        wildcard.set_ip(match destination {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        });
        let found = index
            .listeners
            .get(&destination)
            .or_else(|| index.listeners.get(&wildcard));
        found.cloned()
    }

    fn close_forbidden(&self, snapshot: &Snapshot) {
        // Tasks are ended after the loop: dropping one takes its entry away.
        let mut forbidden = Vec::new();
        for entry in self.open.borrow().values() {
            let Some(conn) = &entry.conn else { continue };
            if let Err(refusal) = conn.reevaluate(snapshot) {
                tracing::info!(
                    listener = %conn.listener.name, remote = %conn.remote, destination = %conn.destination,
                    "closing a connection: {refusal}"
                );
                forbidden.push(entry.task.clone());
            }
        }
        for task in forbidden {
            task.abort();
        }
    }

    fn close_all(&self) {
        let tasks: Vec<AbortHandle> = self.open.borrow().values().map(|e| e.task.clone()).collect();
        for task in tasks {
            task.abort();
        }
    }
}

impl ByAddress {
    fn new(snapshot: &Snapshot) -> Self {
        let mut listeners = Map::default();
        let mut ordered: Vec<_> = snapshot.listeners.values().collect();
        // Two listeners of one address are a mistake; which one wins does not change from one start to the next.
        ordered.sort_by(|a, b| a.name.cmp(&b.name));
        for listener in ordered {
            for address in &listener.addresses {
                listeners.entry(*address).or_insert_with(|| listener.clone());
            }
        }
        ByAddress {
            version: snapshot.version,
            listeners,
        }
    }
}

/// Runs on every worker: holds new snapshots against open connections, and closes them all in the end.
pub(super) async fn follow(worker: Rc<Worker>) {
    let mut changed = worker.shared.changed.subscribe();
    let mut drain = worker.shared.drain.subscribe();
    loop {
        tokio::select! {
            changed = changed.changed() => {
                if changed.is_err() {
                    return;
                }
                worker.connections.close_forbidden(&worker.snapshot());
            }
            closing = drain.wait_for(|d| *d == Drain::Closing) => {
                drop(closing);
                worker.connections.close_all();
                return;
            }
        }
    }
}
