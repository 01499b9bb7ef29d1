//! HTTP/2 requests at a fixed rate (an open loop), by hyper's client: as [`super::open`] does it for HTTP/1.1. No request
//! waits for another; latency counts from when a request was due.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::stream::block_on;
use super::{Latency, Outcome, Target};
use crate::upstream::Local;

/// After the last request was due, so long answers are awaited; what is open then counts as failed.
const GRACE: Duration = Duration::from_secs(2);
/// Of a stream, and of a connection.
const WINDOW: u32 = 1 << 20;

type Sender = SendRequest<Empty<Bytes>>;

/// What came back.
#[derive(Default)]
struct Answers {
    samples: RefCell<Vec<u64>>,
    errors: Cell<u64>,
}

/// Sends `rate` requests a second over so many connections by turns.
pub(crate) fn run(target: &Target, connections: u32, rate: f64, body: u32) -> Result<Outcome> {
    block_on(async {
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(connect(target).await?);
        }
        let uri: http::Uri = format!("http://{}/b/{body}", target.host).parse()?;
        let total = (rate * target.time.as_secs_f64()).round() as u64;
        let start = Instant::now() + Duration::from_millis(5);
        let mut ticks = ticks(start, rate, total);
        let answers = Rc::new(Answers::default());
        let mut sent = 0;
        while let Some(due) = ticks.recv().await {
            let sender = senders[sent % senders.len()].clone();
            let (uri, answers) = (uri.clone(), answers.clone());
            tokio::task::spawn_local(async move {
                match one(sender, uri).await {
                    Ok(()) => {
                        let nanos = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        answers.samples.borrow_mut().push(nanos);
                    }
                    Err(_) => answers.errors.set(answers.errors.get() + 1),
                }
            });
            sent += 1;
        }
        let answered = || answers.samples.borrow().len() as u64 + answers.errors.get();
        while answered() < total && Instant::now() < start + target.time + GRACE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let samples = answers.samples.take();
        Ok(Outcome {
            operations: samples.len() as u64,
            errors: total - samples.len() as u64,
            time: start.elapsed(),
            bytes: 0,
            latency: Latency::of(samples),
        })
    })
}

/// The moments at which requests are due, each when it has come. From a thread of its own: tokio's timers have steps of a
/// millisecond.
fn ticks(start: Instant, rate: f64, total: u64) -> UnboundedReceiver<Instant> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        // Else the kernel may wake us 50 µs late.
        let _ = nix::sys::prctl::set_timerslack(1);
        for number in 0..total {
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn connect(target: &Target) -> Result<Sender> {
    let stream = TcpStream::connect(target.address)
        .await
        .with_context(|| target.address.to_string())?;
    stream.set_nodelay(true)?;
    let (sender, connection) = Builder::new(Local)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn one(mut sender: Sender, uri: http::Uri) -> Result<()> {
    sender.ready().await?;
    let request = Request::builder().version(http::Version::HTTP_2).uri(uri);
    let response = sender.send_request(request.body(Empty::new())?).await?;
    if !response.status().is_success() {
        bail!("answered {}", response.status());
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}
