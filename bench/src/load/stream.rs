//! Our own loads over TCP: bulk, round trips, and new TLS connections. One thread, the runtime of the caller's core.

use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use super::{Latency, Outcome, Target};
use crate::pki::{NAME, Pki};
use crate::upstream::{ECHO, SINK, SOURCE};

/// Of one message to and fro.
const MESSAGE: usize = 64;
/// Bytes that are moved before the clock is looked at again.
const CHUNK: u64 = 256 << 20;
const BLOCK: usize = 64 * 1024;

/// Runs a future on this thread to its end.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, future)
}

/// Downloads, then uploads, each for half of the time.
pub(crate) fn bulk(target: &Target) -> Result<Outcome> {
    block_on(async {
        let start = Instant::now();
        let mut bytes = 0;
        let mut chunk = CHUNK / 16;
        for what in [SOURCE, SINK] {
            let phase = Instant::now();
            while phase.elapsed() < target.time / 2 {
                move_bytes(target.address, what, chunk).await?;
                bytes += chunk;
                chunk = CHUNK;
            }
        }
        Ok(Outcome {
            operations: bytes >> 20,
            bytes,
            time: start.elapsed(),
            ..Outcome::default()
        })
    })
}

async fn move_bytes(address: SocketAddr, what: u8, count: u64) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut head = vec![what];
    head.extend(count.to_be_bytes());
    stream.write_all(&head).await?;
    let mut block = vec![0; BLOCK];
    let mut left = usize::try_from(count)?;
    while left > 0 {
        let n = left.min(BLOCK);
        left -= if what == SOURCE {
            match stream.read(&mut block[..n]).await? {
                0 => bail!("the connection ended with {left} bytes to come"),
                n => n,
            }
        } else {
            stream.write_all(&block[..n]).await?;
            n
        };
    }
    if what == SINK {
        stream.read_u8().await.context("no word of the upstream at the end")?;
    }
    Ok(())
}

/// Short messages to and fro, one under way on each connection.
pub(crate) fn round_trips(target: &Target, connections: u32) -> Result<Outcome> {
    let address = target.address;
    closed_loop(target.time, connections, move |tally| async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&[ECHO]).await?;
        let mut message = [7; MESSAGE];
        while tally.runs() {
            let sent = Instant::now();
            stream.write_all(&message).await?;
            stream.read_exact(&mut message).await?;
            tally.done(sent);
        }
        Ok(())
    })
}

/// A new connection with a whole TLS 1.3 handshake (mutual) for each request.
pub(crate) fn handshakes(target: &Target, connections: u32, pki: &Pki) -> Result<Outcome> {
    let connector = TlsConnector::from(Arc::new(pki.client(&["http/1.1"])?));
    let request = Rc::new(format!(
        "GET /b/0 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        target.host
    ));
    let address = target.address;
    closed_loop(target.time, connections, move |tally| {
        let (connector, request) = (connector.clone(), request.clone());
        async move {
            while tally.runs() {
                let begun = Instant::now();
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut stream = connector.connect(ServerName::try_from(NAME)?, stream).await?;
                stream.write_all(request.as_bytes()).await?;
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await?;
                if !answer.ends_with(b"200") {
                    bail!("answered {}", String::from_utf8_lossy(&answer));
                }
                tally.done(begun);
                // Reset at once: a waiting socket for each connection would use the ports up.
                let _ = stream.get_ref().0.set_zero_linger();
            }
            Ok(())
        }
    })
}

/// Opens connections, has one request answered on each, and holds them until the closure has run.
pub(crate) fn idle<T>(target: &Target, connections: u32, meanwhile: impl FnOnce() -> T) -> Result<T> {
    let request = format!("GET /b/0 HTTP/1.1\r\nHost: {}\r\n\r\n", target.host);
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut stream = std::net::TcpStream::connect(target.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = [0; 1024];
        let count = stream.read(&mut answer).context("a connection that is to be idle")?;
        anyhow::ensure!(
            answer[..count].starts_with(b"HTTP/1.1 200"),
            "answered {}",
            String::from_utf8_lossy(&answer[..count])
        );
        held.push(stream);
    }
    std::thread::sleep(Duration::from_millis(500));
    Ok(meanwhile())
}

/// What the tasks of a load share.
#[derive(Clone)]
pub(crate) struct Tally {
    end: Instant,
    samples: Rc<RefCell<Vec<u64>>>,
}

impl Tally {
    /// Whether the load goes on.
    pub(crate) fn runs(&self) -> bool {
        Instant::now() < self.end
    }

    /// Counts an operation that began then.
    pub(crate) fn done(&self, begun: Instant) {
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.samples.borrow_mut().push(nanos);
    }
}

/// So many tasks at once, each doing one thing after the other.
pub(crate) fn closed_loop<F>(time: Duration, tasks: u32, one: impl Fn(Tally) -> F) -> Result<Outcome>
where
    F: Future<Output = Result<()>> + 'static,
{
    block_on(async {
        let start = Instant::now();
        let tally = Tally {
            end: start + time,
            samples: Rc::default(),
        };
        let errors = Rc::new(Cell::new(0));
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let (task, errors) = (one(tally.clone()), errors.clone());
                tokio::task::spawn_local(async move {
                    let outcome = task.await;
                    if let Err(error) = outcome {
                        if errors.get() == 0 {
                            crate::progress(&format!("a connection of the load failed: {error:#}"));
                        }
                        errors.set(errors.get() + 1);
                    }
                })
            })
            .collect();
        for task in running {
            task.await?;
        }
        let samples = tally.samples.take();
        Ok(Outcome {
            operations: samples.len() as u64,
            errors: errors.get(),
            time: start.elapsed(),
            bytes: 0,
            latency: Latency::of(samples),
        })
    })
}
