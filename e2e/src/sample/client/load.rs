//! HTTP load: so many requests at such a rate, and who answered what how fast.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::parse_duration;
use crate::sample::upstream::{Answer, Options, Upstream};

/// What to send.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// URL
    pub url: Uri,
    /// Requests to send; without it as many as fit into --duration
    #[arg(long)]
    pub requests: Option<u64>,
    /// How long to send
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
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
    /// A connection for each request
    #[arg(long)]
    pub no_keep_alive: bool,
    /// Count answers by `header:NAME`, `json:/POINTER` or `body`
    #[arg(long)]
    pub count_by: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Answers with status 2xx.
    pub ok: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests without a whole answer, by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Answers by what `--count-by` names; `-` where it is absent.
    pub by_value: BTreeMap<String, u64>,
    /// Milliseconds.
    pub latency_ms: Latency,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// Nine of ten are faster.
    pub p90: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Report {
    /// Requests without an answer with status 2xx.
    pub fn failed(&self) -> u64 {
        self.sent - self.ok
    }
}

struct Outcome {
    result: Result<Answer, String>,
    took: Duration,
}

/// Sends and counts.
///
/// # Errors
/// When there is no end to it, or a header is none.
pub async fn run(load: Load) -> Result<Report> {
    if load.requests.is_none() && load.duration.is_none() {
        bail!("say how much: --requests or --duration");
    }
    let client = Upstream::new(Options {
        keep_alive: !load.no_keep_alive,
        http2: load.http2,
        timeout: load.timeout,
    });
    let headers = header_map(&load.headers)?;
    let body = Bytes::from(load.body.clone());
    let (send, mut receive) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(load.concurrency.max(1)));
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
            let mut request = Request::new(Full::new(body.clone()));
            *request.uri_mut() = wanted.url.clone();
            *request.method_mut() = wanted.method.clone();
            *request.headers_mut() = headers.clone();
            let (client, send) = (client.clone(), send.clone());
            // At a rate, time counts from when the request was due: waiting for a free place is part of it.
            let from = if wanted.rate.is_some() { due } else { Instant::now() };
            tokio::spawn(async move {
                let result = client.send(request).await.map_err(|error| format!("{error:#}"));
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
    while let Some(outcome) = receive.recv().await {
        report.sent += 1;
        match outcome.result {
            Err(error) => *report.errors.entry(error).or_default() += 1,
            Ok(answer) => {
                times.push(outcome.took.as_secs_f64() * 1e3);
                report.ok += u64::from(answer.status.is_success());
                *report.by_status.entry(answer.status.as_u16()).or_default() += 1;
                if let Some(what) = &load.count_by {
                    *report.by_value.entry(value(what, &answer)).or_default() += 1;
                }
            }
        }
    }
    sender.await.context("the sender panicked")?;
    report.latency_ms = quantiles(times);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn header_map(lines: &[String]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::try_from(name.trim()).ok()?;
            Some((name, HeaderValue::try_from(value.trim()).ok()?))
        });
        let (name, value) = parsed.with_context(|| format!("header {line:?}: expected NAME: VALUE"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn value(what: &str, answer: &Answer) -> String {
    let found = if let Some(name) = what.strip_prefix("header:") {
        let value = answer.headers.get(name);
        value.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
    } else if let Some(pointer) = what.strip_prefix("json:") {
        let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        document
            .pointer(pointer)
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
    } else {
        Some(String::from_utf8_lossy(&answer.body).into_owned())
    };
    found.unwrap_or_else(|| "-".to_owned())
}

fn quantiles(mut times: Vec<f64>) -> Latency {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((times.len() as f64) * share) as usize;
        let value = times
            .get(index.min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default();
        (value * 1000.0).round() / 1000.0
    };
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max: at(1.0),
    }
}
