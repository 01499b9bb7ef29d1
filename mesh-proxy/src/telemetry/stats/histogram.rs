//! Histograms with Envoy's default buckets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets (inclusive), for milliseconds and for bytes. The last bucket, `+Inf`, is not listed.
pub const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];
const BUCKETS: usize = BOUNDS.len() + 1;

/// How often values fell into each bucket.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    buckets: [AtomicU64; BUCKETS],
    /// Sum in thousandths, so that it can be added to without a loop; wraps after half a million years of milliseconds.
    sum_milli: AtomicU64,
}

impl Histogram {
    /// Adds a value.
    pub fn record(&self, value: f64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < value);
        self.0.buckets[bucket].fetch_add(1, Relaxed);
        // Values are durations and sizes: not negative, far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.0.sum_milli.fetch_add((value * 1000.0) as u64, Relaxed);
    }

    /// Values now.
    pub fn get(&self) -> HistogramValues {
        let mut values = HistogramValues::default();
        self.add_to(&mut values);
        values
    }

    /// Adds these values to a sum (of the workers' cells).
    pub fn add_to(&self, values: &mut HistogramValues) {
        for (sum, cell) in values.buckets.iter_mut().zip(&self.0.buckets) {
            *sum += cell.load(Relaxed);
        }
        #[allow(clippy::cast_precision_loss)]
        let sum = self.0.sum_milli.load(Relaxed) as f64 / 1000.0;
        values.sum += sum;
    }

    /// Back to zero.
    pub fn reset(&self) {
        self.0.buckets.iter().for_each(|b| b.store(0, Relaxed));
        self.0.sum_milli.store(0, Relaxed);
    }

    pub(super) fn unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HistogramValues {
    /// Values in each bucket, not cumulative; the last is `+Inf`.
    pub buckets: [u64; BUCKETS],
    /// Sum of all values.
    pub sum: f64,
}

impl HistogramValues {
    /// No values.
    pub const EMPTY: Self = HistogramValues {
        buckets: [0; BUCKETS],
        sum: 0.0,
    };

    /// How many values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The value below which `q` (0 to 1) of all values are, by interpolation inside a bucket; `None` when empty.
    #[allow(clippy::cast_precision_loss)]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q * count as f64;
        let mut below = 0.0;
        for (i, n) in self.buckets.iter().enumerate() {
            let n = *n as f64;
            if n > 0.0 && below + n >= rank {
                let lower = if i == 0 { 0.0 } else { BOUNDS[i - 1] };
                let upper = BOUNDS.get(i).copied().unwrap_or(lower);
                return Some(lower + (upper - lower) * ((rank - below) / n).clamp(0.0, 1.0));
            }
            below += n;
        }
        BOUNDS.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        let h = Histogram::default();
        for v in [0.0, 0.5, 0.6, 1.0, 7.0, 4_000_000.0] {
            h.record(v);
        }
        let values = h.get();
        assert_eq!(values.buckets[..4], [2, 2, 0, 1]);
        assert_eq!(values.buckets[BUCKETS - 1], 1);
        assert_eq!(values.count(), 6);
        assert!((values.sum - 4_000_009.1).abs() < 0.01, "{}", values.sum);
    }

    #[test]
    fn quantiles_interpolate() {
        let h = Histogram::default();
        assert_eq!(h.get().quantile(0.5), None);
        for _ in 0..10 {
            h.record(8.0);
        }
        let q = h.get().quantile(0.5).expect("ten values");
        assert!((5.0..=10.0).contains(&q), "{q}");
    }
}
