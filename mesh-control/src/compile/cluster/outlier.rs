//! Ejection of endpoints that fail.

use mesh_api::istio::{Duration, OutlierDetection};

use super::super::pb::{ProtoDuration, UInt32Value, cluster, time, types, uint};
use super::policy::Policy;

/// Ejection as the policy asks for it. The panic threshold goes with it: Envoy's own, half of the endpoints, is reached too
/// soon where a service has a few.
pub(super) fn apply(policy: &Policy<'_>, out: &mut cluster::Cluster) {
    let Some(from) = policy.outlier else {
        return;
    };
    out.outlier_detection = Some(detection(from));
    let common = out.common_lb_config.get_or_insert_default();
    common.healthy_panic_threshold = Some(types::Percent {
        value: f64::from(from.min_health_percent.clamp(0, 100)),
    });
}

/// Envoy's own values stand where the object says nothing: 5 errors, 10 s between sweeps, 30 s, 10 %.
fn detection(from: &OutlierDetection) -> cluster::OutlierDetection {
    let mut out = cluster::OutlierDetection {
        // Ejection by comparison of success rates is nothing that an object can ask for.
        enforcing_success_rate: uint(0),
        consecutive_5xx: from.consecutive_5xx_errors.and_then(uint),
        enforcing_consecutive_5xx: from.consecutive_5xx_errors.and_then(enforcing),
        consecutive_gateway_failure: from.consecutive_gateway_errors.and_then(uint),
        enforcing_consecutive_gateway_failure: from.consecutive_gateway_errors.and_then(enforcing),
        interval: span(from.interval),
        base_ejection_time: span(from.base_ejection_time),
        max_ejection_percent: u32::try_from(from.max_ejection_percent)
            .ok()
            .filter(|percent| *percent > 0)
            .and_then(uint),
        split_external_local_origin_errors: from.split_external_local_origin_errors,
        ..Default::default()
    };
    if from.split_external_local_origin_errors {
        let own = from.consecutive_local_origin_failures.filter(|n| *n > 0);
        out.consecutive_local_origin_failure = own.and_then(uint);
        out.enforcing_consecutive_local_origin_failure = own.and_then(enforcing);
        out.enforcing_local_origin_success_rate = uint(0);
    }
    out
}

/// Percent of the cases in which so many errors eject: 0 errors turn it off.
fn enforcing(errors: u32) -> Option<UInt32Value> {
    uint(if errors == 0 { 0 } else { 100 })
}

fn span(d: Option<Duration>) -> Option<ProtoDuration> {
    d.and_then(|d| time(d.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_errors_turn_a_counter_off() {
        let from = OutlierDetection {
            consecutive_5xx_errors: Some(0),
            consecutive_gateway_errors: Some(1),
            ..Default::default()
        };
        let out = detection(&from);
        assert_eq!((out.consecutive_5xx, out.enforcing_consecutive_5xx), (uint(0), uint(0)));
        let gateway = (
            out.consecutive_gateway_failure,
            out.enforcing_consecutive_gateway_failure,
        );
        assert_eq!(gateway, (uint(1), uint(100)));
        // What is not said is Envoy's own.
        assert_eq!(
            (out.interval, out.base_ejection_time, out.max_ejection_percent),
            (None, None, None)
        );
    }

    #[test]
    fn errors_of_this_side_are_counted_apart_only_if_asked() {
        let mut from = OutlierDetection {
            consecutive_local_origin_failures: Some(3),
            ..Default::default()
        };
        let out = detection(&from);
        assert_eq!(out.consecutive_local_origin_failure, None);
        assert_eq!(out.enforcing_local_origin_success_rate, None);
        from.split_external_local_origin_errors = true;
        let out = detection(&from);
        assert!(out.split_external_local_origin_errors);
        assert_eq!(out.consecutive_local_origin_failure, uint(3));
        assert_eq!(out.enforcing_consecutive_local_origin_failure, uint(100));
        assert_eq!(out.enforcing_local_origin_success_rate, uint(0));
    }
}
