//! `Cluster.outlier_detection`.

use std::time::Duration;

use mesh_api::envoy::pb::envoy::config::cluster::v3 as cluster;
use mesh_api::envoy::pb::google::protobuf::{Duration as Proto, UInt32Value};

use super::common::{duration, uint};
use super::invalid::{Invalid, Result};
use crate::snapshot::{OutlierDetection, RateRule, Threshold};

/// Fills Envoy's defaults in.
pub(super) fn outlier_detection(value: &cluster::OutlierDetection) -> Result<OutlierDetection> {
    let time = |value: Option<&Proto>, field: &str, default: u64| match duration(value) {
        None => Ok(Duration::from_secs(default)),
        Some(zero) if zero.is_zero() => Err(Invalid::new("must be more than 0").under(field)),
        Some(time) => Ok(time),
    };
    let number = |value: &Option<UInt32Value>, default| uint(value.as_ref()).unwrap_or(default);
    let percent = |value: &Option<UInt32Value>, field: &str, default| match number(value, default) {
        many if many > 100 => Err(Invalid::new("is a percentage: 0 to 100").under(field)),
        percent => Ok(percent),
    };
    let base_ejection_time = time(value.base_ejection_time.as_ref(), "base_ejection_time", 30)?;
    let max_ejection_time = time(value.max_ejection_time.as_ref(), "max_ejection_time", 300)?;
    Ok(OutlierDetection {
        interval: time(value.interval.as_ref(), "interval", 10)?,
        base_ejection_time,
        max_ejection_time: max_ejection_time.max(base_ejection_time),
        jitter: duration(value.max_ejection_time_jitter.as_ref()).unwrap_or_default(),
        max_ejection_percent: percent(&value.max_ejection_percent, "max_ejection_percent", 10)?,
        always_eject_one: value.always_eject_one_host.is_some_and(|v| v.value),
        split: value.split_external_local_origin_errors,
        consecutive_5xx: Threshold {
            count: number(&value.consecutive_5xx, 5),
            enforcing: percent(&value.enforcing_consecutive_5xx, "enforcing_consecutive_5xx", 100)?,
        },
        gateway_failure: Threshold {
            count: number(&value.consecutive_gateway_failure, 5),
            enforcing: percent(
                &value.enforcing_consecutive_gateway_failure,
                "enforcing_consecutive_gateway_failure",
                0,
            )?,
        },
        local_origin: Threshold {
            count: number(&value.consecutive_local_origin_failure, 5),
            enforcing: percent(
                &value.enforcing_consecutive_local_origin_failure,
                "enforcing_consecutive_local_origin_failure",
                100,
            )?,
        },
        success_rate: RateRule {
            enforcing: percent(&value.enforcing_success_rate, "enforcing_success_rate", 100)?,
            enforcing_local: percent(
                &value.enforcing_local_origin_success_rate,
                "enforcing_local_origin_success_rate",
                100,
            )?,
            minimum_hosts: number(&value.success_rate_minimum_hosts, 5),
            request_volume: number(&value.success_rate_request_volume, 100),
        },
        stdev_factor: number(&value.success_rate_stdev_factor, 1900),
        failure_percentage: RateRule {
            enforcing: percent(&value.enforcing_failure_percentage, "enforcing_failure_percentage", 0)?,
            enforcing_local: percent(
                &value.enforcing_failure_percentage_local_origin,
                "enforcing_failure_percentage_local_origin",
                0,
            )?,
            minimum_hosts: number(&value.failure_percentage_minimum_hosts, 5),
            request_volume: number(&value.failure_percentage_request_volume, 50),
        },
        failure_threshold: percent(&value.failure_percentage_threshold, "failure_percentage_threshold", 85)?,
    })
}
