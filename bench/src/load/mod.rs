//! Loads: what they are run with, and what they give.

pub(crate) mod grpc;
pub(crate) mod h2load;
pub(crate) mod open;
pub(crate) mod paced;
pub(crate) mod serial;
pub(crate) mod stream;
pub(crate) mod wrk;

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// Where and how long.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The host that requests ask for.
    pub(crate) host: String,
    pub(crate) time: Duration,
}

/// What a load counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Requests, round trips, handshakes or messages that succeeded.
    pub(crate) operations: u64,
    /// Failures: answers other than 2xx, broken connections, time-outs.
    pub(crate) errors: u64,
    /// From first to last.
    pub(crate) time: Duration,
    /// Bytes moved, for bulk.
    pub(crate) bytes: u64,
    pub(crate) latency: Option<Latency>,
}

/// Quantiles, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Latency {
    /// From samples in nanoseconds, in any order.
    pub(crate) fn of(mut samples: Vec<u64>) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        samples.sort_unstable();
        let at = |share: f64| {
            let index = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len()) - 1;
            samples[index] as f64 / 1000.0
        };
        Some(Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Latency;

    #[test]
    fn quantiles_are_of_the_samples() {
        let samples = (1..=1000u64).rev().map(|n| n * 1000).collect();
        let expected = Latency {
            p50: 500.0,
            p90: 900.0,
            p99: 990.0,
            p999: 999.0,
        };
        assert_eq!(Latency::of(samples), Some(expected));
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
