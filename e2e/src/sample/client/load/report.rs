//! What came of a load: counts, times, and the first of those that failed one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Failures that are told one by one; more of them say nothing new.
const TOLD: usize = 40;
/// Of the answer of each of them.
const TOLD_BYTES: usize = 1500;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Answers with status 2xx; with gRPC those with status 0.
    pub ok: u64,
    /// HTTP answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// gRPC answers by status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_grpc_status: BTreeMap<i32, u64>,
    /// Requests without a whole answer, by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Answers by what `--count-by` names; `-` where it is absent.
    pub by_value: BTreeMap<String, u64>,
    /// The first requests that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Milliseconds.
    pub latency_ms: Latency,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
}

/// A request that failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Time of day (UTC) at which that was known.
    pub at: String,
    /// Milliseconds that it took.
    pub after_ms: f64,
    /// Status, or what went wrong.
    pub what: String,
    /// Headers and body of the answer, if there was one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
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

/// A whole answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: Status,
    pub(super) headers: HeaderMap,
    pub(super) body: bytes::Bytes,
}

/// How the server says whether it went well.
#[derive(Debug, Clone, Copy)]
pub(super) enum Status {
    Http(StatusCode),
    Grpc(tonic::Code),
}

impl Status {
    fn is_success(self) -> bool {
        match self {
            Status::Http(status) => status.is_success(),
            Status::Grpc(code) => code == tonic::Code::Ok,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Http(status) => write!(f, "{}", status.as_u16()),
            Status::Grpc(code) => write!(f, "gRPC {} ({code:?})", i32::from(*code)),
        }
    }
}

impl Report {
    /// Requests without a good answer.
    pub fn failed(&self) -> u64 {
        self.sent - self.ok
    }

    pub(super) fn count(&mut self, result: Result<Reply, String>, took: Duration, count_by: Option<&str>) {
        self.sent += 1;
        match result {
            Err(error) => {
                self.tell(took, error.clone(), String::new());
                *self.errors.entry(error).or_default() += 1;
            }
            Ok(reply) => {
                match reply.status {
                    Status::Http(status) => *self.by_status.entry(status.as_u16()).or_default() += 1,
                    Status::Grpc(code) => *self.by_grpc_status.entry(code.into()).or_default() += 1,
                }
                if reply.status.is_success() {
                    self.ok += 1;
                } else {
                    self.tell(took, reply.status.to_string(), shown(&reply));
                }
                if let Some(what) = count_by {
                    *self.by_value.entry(value(what, &reply)).or_default() += 1;
                }
            }
        }
    }

    fn tell(&mut self, took: Duration, what: String, answer: String) {
        if self.failures.len() < TOLD {
            self.failures.push(Failure {
                at: jiff::Timestamp::now().strftime("%H:%M:%S%.3f").to_string(),
                after_ms: rounded(took.as_secs_f64() * 1e3),
                what,
                answer,
            });
        }
    }
}

/// Counts, and each failure that is told on a line of its own.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} failed in {:.1} s; statuses {:?}",
            self.failed(),
            self.sent,
            self.seconds,
            self.by_status
        )?;
        if !self.by_grpc_status.is_empty() {
            write!(f, ", of gRPC {:?}", self.by_grpc_status)?;
        }
        if !self.errors.is_empty() {
            write!(f, ", without an answer {:?}", self.errors)?;
        }
        let latency = &self.latency_ms;
        write!(
            f,
            "; p50 {} ms, p99 {} ms, max {} ms",
            latency.p50, latency.p99, latency.max
        )?;
        for failure in &self.failures {
            let Failure {
                at,
                after_ms,
                what,
                answer,
            } = failure;
            write!(f, "\n    {at} after {after_ms} ms: {what} {answer}")?;
        }
        Ok(())
    }
}

/// Headers and body on one line.
fn shown(reply: &Reply) -> String {
    let mut shown = String::new();
    for (name, value) in &reply.headers {
        shown += &format!("{name}: {}; ", String::from_utf8_lossy(value.as_bytes()));
    }
    let body = String::from_utf8_lossy(&reply.body);
    shown.extend(body.split_whitespace().flat_map(|word| [word, " "]));
    shown.truncate(shown.floor_char_boundary(TOLD_BYTES));
    shown.trim_end().to_owned()
}

fn value(what: &str, reply: &Reply) -> String {
    let found = if let Some(name) = what.strip_prefix("header:") {
        let value = reply.headers.get(name);
        value.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
    } else if let Some(pointer) = what.strip_prefix("json:") {
        let document: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        document
            .pointer(pointer)
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
    } else {
        Some(String::from_utf8_lossy(&reply.body).into_owned())
    };
    found.unwrap_or_else(|| "-".to_owned())
}

/// Of so many milliseconds each.
pub(super) fn quantiles(mut times: Vec<f64>) -> Latency {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((times.len() as f64) * share) as usize;
        let value = times.get(index.min(times.len().saturating_sub(1)));
        rounded(value.copied().unwrap_or_default())
    };
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max: at(1.0),
    }
}

fn rounded(millis: f64) -> f64 {
    (millis * 1000.0).round() / 1000.0
}
