//! A proxy in this process, and peers for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::shared::{Node, Shared};
use crate::snapshot::{Cluster, Listener, Snapshot};
use crate::worker::Workers;

/// Longest that a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Workers with listeners that follow what is published.
pub(crate) struct TestProxy {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Workers,
    version: AtomicU64,
}

impl TestProxy {
    pub(crate) fn start(workers: usize) -> Self {
        let shared = Shared::new(Node::default());
        let workers = Workers::start(workers, &shared).expect("threads");
        crate::listener::start(&shared, &workers);
        TestProxy {
            shared,
            workers,
            version: AtomicU64::new(0),
        }
    }

    pub(crate) fn publish(&self, listeners: Vec<Listener>, clusters: Vec<Cluster>) {
        self.shared.publish(Snapshot {
            version: self.version.fetch_add(1, Relaxed) + 1,
            listeners: listeners.into_iter().map(|l| (l.name.clone(), Arc::new(l))).collect(),
            clusters: clusters.into_iter().map(|c| (c.name.clone(), Arc::new(c))).collect(),
            ..Snapshot::default()
        });
    }

    /// Address of a listener, once it listens.
    pub(crate) async fn address_of(&self, name: &str) -> SocketAddr {
        let find = || self.shared.listeners.bound().into_iter().find(|b| *b.listener == *name);
        eventually(&format!("{name} listens"), || find().is_some()).await;
        find().expect("just seen").local
    }

    /// A counter of the proxy.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.shared.stats.counter(name).get()
    }
}

/// Polls until the condition holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// A step that must not hang.
pub(crate) async fn soon<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done,
        Err(_) => panic!("timed out: {what}"),
    }
}

/// A server that answers a connection with its name and a colon, then with all that it reads, and ends when its peer has.
pub(crate) async fn echo_server(name: &'static str) -> SocketAddr {
    echo_server_on("127.0.0.1:0", name).await
}

/// The same on an address of the caller's choice.
pub(crate) async fn echo_server_on(address: &str, name: &'static str) -> SocketAddr {
    let socket = TcpListener::bind(address).await.expect("a free address");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(echo(stream, name));
        }
    });
    address
}

async fn echo(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.write_all(format!("{name}:").as_bytes()).await?;
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// Sends, says that it is done, and reads to the end.
pub(crate) async fn exchange<S>(mut stream: S, message: &[u8]) -> std::io::Result<Vec<u8>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    soon("exchange", async {
        stream.write_all(message).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    })
    .await
}
