//! `cluster.<name>.outlier_detection.*`.

use super::{Counter, Family, Gauge, Registry, StatValue};

/// Defines the cells with the names of their statistics.
macro_rules! cells {
    ($($field:ident = $name:literal,)*) => {
        /// What outlier detection counts, under Envoy's names. Those of one kind of error are by
        /// [`crate::upstream::outlier::Kind`].
        #[derive(Debug, Default)]
        pub struct OutlierCells {
            /// `ejections_active`
            pub ejections_active: Gauge,
            $(#[doc = $name] pub $field: Counter,)*
            /// `ejections_detected_*`
            pub detected: [Counter; 7],
            /// `ejections_enforced_*`
            pub enforced: [Counter; 7],
        }

        impl OutlierCells {
            pub(super) fn new(registry: &Registry, cluster: &str) -> Self {
                let scope = registry.scope(Family::Cluster, cluster);
                OutlierCells {
                    ejections_active: scope.gauge("outlier_detection.ejections_active"),
                    $($field: scope.counter(concat!("outlier_detection.", $name)),)*
                    detected: DETECTED.map(|name| scope.counter(name)),
                    enforced: ENFORCED.map(|name| scope.counter(name)),
                }
            }
        }

        const COUNTERS: &[&str] = &[$(concat!("outlier_detection.", $name),)*];
    };
}

cells! {
    ejections_enforced_total = "ejections_enforced_total",
    ejections_total = "ejections_total",
    ejections_overflow = "ejections_overflow",
    ejections_consecutive_5xx = "ejections_consecutive_5xx",
    ejections_success_rate = "ejections_success_rate",
}

const DETECTED: [&str; 7] = [
    "outlier_detection.ejections_detected_consecutive_5xx",
    "outlier_detection.ejections_detected_consecutive_gateway_failure",
    "outlier_detection.ejections_detected_consecutive_local_origin_failure",
    "outlier_detection.ejections_detected_success_rate",
    "outlier_detection.ejections_detected_local_origin_success_rate",
    "outlier_detection.ejections_detected_failure_percentage",
    "outlier_detection.ejections_detected_local_origin_failure_percentage",
];

const ENFORCED: [&str; 7] = [
    "outlier_detection.ejections_enforced_consecutive_5xx",
    "outlier_detection.ejections_enforced_consecutive_gateway_failure",
    "outlier_detection.ejections_enforced_consecutive_local_origin_failure",
    "outlier_detection.ejections_enforced_success_rate",
    "outlier_detection.ejections_enforced_local_origin_success_rate",
    "outlier_detection.ejections_enforced_failure_percentage",
    "outlier_detection.ejections_enforced_local_origin_failure_percentage",
];

/// Every cell as it is listed before there is one.
pub(super) fn zeros() -> impl Iterator<Item = (&'static str, StatValue)> {
    let counters = COUNTERS.iter().chain(&DETECTED).chain(&ENFORCED);
    let gauge = ("outlier_detection.ejections_active", StatValue::Gauge(0));
    counters
        .map(|name| (*name, StatValue::Counter(0)))
        .chain(std::iter::once(gauge))
}
