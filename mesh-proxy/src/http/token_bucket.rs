//! A token bucket that all workers share, without a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Holds at most so many tokens, and fills steadily, as Envoy's does.
#[derive(Debug)]
pub struct TokenBucket {
    max: f64,
    /// Tokens a second.
    rate: f64,
    /// When it was empty, in seconds since `epoch`, as the bits of a float; what has come since then is there.
    empty_at: AtomicU64,
    epoch: OnceLock<Instant>,
}

impl TokenBucket {
    /// Of `max` tokens, full; `each` come in every `interval`.
    pub fn new(max: u32, each: u32, interval: Duration) -> Self {
        let (max, rate) = (f64::from(max), f64::from(each) / interval.as_secs_f64().max(0.001));
        TokenBucket {
            max,
            rate,
            // Long enough before the epoch to be full.
            empty_at: AtomicU64::new((-max / rate).to_bits()),
            epoch: OnceLock::new(),
        }
    }

    /// Takes a token; false when there is none.
    pub fn take(&self, now: Instant) -> bool {
        let epoch = *self.epoch.get_or_init(|| now);
        let now = now.saturating_duration_since(epoch).as_secs_f64();
        let taken = self.empty_at.fetch_update(Relaxed, Relaxed, |bits| {
            let there = ((now - f64::from_bits(bits)) * self.rate).min(self.max);
            (there >= 1.0).then(|| (now - (there - 1.0) / self.rate).to_bits())
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills() {
        let bucket = TokenBucket::new(3, 1, Duration::from_millis(100));
        let start = Instant::now();
        let taken = |at: u64| bucket.take(start + Duration::from_millis(at));
        assert_eq!([taken(0), taken(0), taken(0), taken(0)], [true, true, true, false]);
        assert!(!taken(90));
        assert!(taken(101));
        assert!(!taken(110));
        // Never more than it holds.
        assert_eq!([60_000; 4].map(taken), [true, true, true, false]);
    }
}
