//! Load: so many requests at such a rate, and who answered what how fast.

mod call;
mod report;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use call::Call;
use clap::Args;
use http::{Method, Uri};
pub use report::{Failure, Latency, Report};
use report::{Reply, quantiles};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::parse_duration;

/// What to send.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// URL
    pub url: Uri,
    /// Requests to send; without it as many as fit into the time
    #[arg(long)]
    pub requests: Option<u64>,
    /// How long to send
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Send until standard input ends, for those who start it beside something else
    #[arg(long)]
    pub until_eof: bool,
    /// Requests a second; without it as fast as they are answered
    #[arg(long)]
    pub rate: Option<u32>,
    /// Requests that may be open at once
    #[arg(long, default_value_t = 8)]
    pub concurrency: usize,
    /// How long one request may take
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// `NAME: VALUE`
    #[arg(long = "header", short = 'H')]
    pub headers: Vec<String>,
    /// Method
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// Body
    #[arg(long, default_value = "")]
    pub body: String,
    /// HTTP/2 without TLS
    #[arg(long)]
    pub http2: bool,
    /// gRPC without TLS: calls of the sample application's `ferromesh.sample.Echo/Say` with --body as the text
    #[arg(long, conflicts_with_all = ["http2", "method", "no_keep_alive"])]
    pub grpc: bool,
    /// A connection for each request
    #[arg(long)]
    pub no_keep_alive: bool,
    /// Count answers by `header:NAME`, `json:/POINTER` or `body`
    #[arg(long)]
    pub count_by: Option<String>,
}

struct Outcome {
    result: Result<Reply, String>,
    took: Duration,
}

/// Sends and counts.
///
/// # Errors
/// When there is no end to it, or a header is none.
pub async fn run(load: Load) -> Result<Report> {
    if load.requests.is_none() && load.duration.is_none() && !load.until_eof {
        bail!("say how much: --requests, --duration or --until-eof");
    }
    let call = Arc::new(Call::of(&load)?);
    let (send, mut receive) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(load.concurrency.max(1)));
    let over = Arc::new(AtomicBool::new(false));
    if load.until_eof {
        at_eof(Arc::clone(&over));
    }
    let started = Instant::now();
    let wanted = load.clone();
    let sender = tokio::spawn(async move {
        let mut sent = 0_u64;
        while wanted.requests.is_none_or(|limit| sent < limit) {
            let due = match wanted.rate {
                Some(rate) => started + Duration::from_secs_f64(sent as f64 / f64::from(rate.max(1))),
                None => Instant::now(),
            };
            if wanted
                .duration
                .is_some_and(|limit| due.max(Instant::now()) >= started + limit)
            {
                break;
            }
            if wanted.rate.is_some() {
                tokio::time::sleep_until(due).await;
            }
            let Ok(permit) = Arc::clone(&open).acquire_owned().await else {
                break;
            };
            if over.load(Ordering::Relaxed) {
                break;
            }
            let (call, send) = (Arc::clone(&call), send.clone());
            // At a rate, time counts from when the request was due: waiting for a free place is part of it.
            let from = if wanted.rate.is_some() { due } else { Instant::now() };
            tokio::spawn(async move {
                let result = call.send().await;
                let _ = send.send(Outcome {
                    result,
                    took: from.elapsed(),
                });
                drop(permit);
            });
            sent += 1;
        }
    });
    let mut report = Report::default();
    let mut times = Vec::new();
    while let Some(Outcome { result, took }) = receive.recv().await {
        if result.is_ok() {
            times.push(took.as_secs_f64() * 1e3);
        }
        report.count(result, took, load.count_by.as_deref());
    }
    sender.await.context("the sender panicked")?;
    report.latency_ms = quantiles(times);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Sets the flag when standard input ends. A thread of its own: the runtime would wait at its end for one of its threads.
fn at_eof(over: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        // An input that cannot be read has no more to say either.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        over.store(true, Ordering::Relaxed);
    });
}
