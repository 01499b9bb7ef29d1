//! Faults and cross-origin policy of a rule, as per-route configuration of Envoy's filters.

use mesh_api::istio::{CorsPolicy, HttpFaultInjection, StringMatch, UnmatchedPreflights};

use super::super::pb::{Any, always, core, cors, fault, fault_common, fraction, off, on, pack};
use super::matching;

/// Name of the fault filter and of its per-route configuration.
pub(in super::super) const FAULT: &str = "envoy.filters.http.fault";
/// Name of the CORS filter and of its per-route configuration.
pub(in super::super) const CORS: &str = "envoy.filters.http.cors";

/// Injected faults; `None` if none of them can fire.
pub(super) fn fault(from: &HttpFaultInjection) -> Option<Any> {
    let mut out = fault::HttpFault::default();
    if let Some(delay) = &from.delay
        && let Some(fixed) = delay.fixed_delay
    {
        let percent = delay.percentage.as_ref().map_or(f64::from(delay.percent), |p| p.value);
        out.delay = Some(fault_common::FaultDelay {
            percentage: Some(fraction(percent)),
            fault_delay_secifier: Some(fault_common::fault_delay::FaultDelaySecifier::FixedDelay(
                mesh_api::envoy::duration(fixed.into()),
            )),
        });
    }
    if let Some(abort) = &from.abort {
        use fault::fault_abort::ErrorType;
        let http = abort.http_status.and_then(|s| u32::try_from(s).ok());
        let error = match (http, abort.grpc_status.as_deref().and_then(grpc_status)) {
            (Some(status), _) => Some(ErrorType::HttpStatus(status)),
            (None, Some(status)) => Some(ErrorType::GrpcStatus(status)),
            (None, None) => None,
        };
        out.abort = error.map(|error| fault::FaultAbort {
            percentage: Some(fraction(
                abort.percentage.as_ref().map_or(f64::from(abort.percent), |p| p.value),
            )),
            error_type: Some(error),
            ..Default::default()
        });
    }
    (out.delay.is_some() || out.abort.is_some()).then(|| pack(&out))
}

/// Number of a gRPC status by its name (or written as a number).
fn grpc_status(name: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let upper = name.to_ascii_uppercase();
    let index = NAMES.iter().position(|n| *n == upper);
    index.and_then(|i| u32::try_from(i).ok()).or_else(|| name.parse().ok())
}

/// A cross-origin policy.
pub(super) fn cors(from: &CorsPolicy) -> Any {
    let origins = from.allow_origin.iter().map(|origin| match origin.as_str() {
        "*" => StringMatch::Regex(".*".to_owned()),
        other => StringMatch::Exact(other.to_owned()),
    });
    let origins: Vec<StringMatch> = from.allow_origins.iter().cloned().chain(origins).collect();
    pack(&cors::CorsPolicy {
        allow_origin_string_match: origins.iter().map(matching::string).collect(),
        allow_methods: from.allow_methods.join(","),
        allow_headers: from.allow_headers.join(","),
        expose_headers: from.expose_headers.join(","),
        max_age: from.max_age.map(|d| d.get().as_secs().to_string()).unwrap_or_default(),
        allow_credentials: from
            .allow_credentials
            .and_then(|allow| if allow { on() } else { off() }),
        filter_enabled: Some(core::RuntimeFractionalPercent {
            default_value: Some(always()),
            ..Default::default()
        }),
        forward_not_matching_preflights: match from.unmatched_preflights {
            UnmatchedPreflights::Ignore => off(),
            UnmatchedPreflights::Forward => on(),
            UnmatchedPreflights::Unspecified => None,
        },
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use mesh_api::istio::{FaultAbort, FaultDelay};

    use super::*;

    #[test]
    fn shares_may_be_written_in_the_old_way() {
        let from = |delay, abort| HttpFaultInjection {
            delay: Some(FaultDelay {
                fixed_delay: Some(std::time::Duration::from_secs(3).into()),
                percent: delay,
                ..Default::default()
            }),
            abort: Some(FaultAbort {
                http_status: Some(500),
                percent: abort,
                ..Default::default()
            }),
        };
        let shares = |from: &HttpFaultInjection| {
            let packed = fault(from).expect("a fault");
            let out: fault::HttpFault = mesh_api::envoy::unpack(&packed).expect("a fault");
            [
                out.delay.and_then(|d| d.percentage),
                out.abort.and_then(|a| a.percentage),
            ]
        };
        assert_eq!(shares(&from(10, 20)), [Some(fraction(10.0)), Some(fraction(20.0))]);
        let mut both = from(0, 20);
        both.abort.as_mut().expect("it").percentage = Some(mesh_api::istio::Percent { value: 5.0 });
        assert_eq!(shares(&both), [Some(fraction(0.0)), Some(fraction(5.0))]);
    }

    #[test]
    fn grpc_statuses_have_names_and_numbers() {
        assert_eq!(grpc_status("unavailable"), Some(14));
        assert_eq!(grpc_status("14"), Some(14));
        assert_eq!(grpc_status("NO_SUCH"), None);
    }
}
