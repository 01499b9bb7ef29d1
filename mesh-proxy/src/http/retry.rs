//! Why an attempt failed, and whether another one may be made.

use std::borrow::Cow;
use std::error::Error as _;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::grpc;
use super::headers::{OVERLOADED, RATE_LIMITED};
use super::reply::Local;
use super::routes::response_header_matches;
use crate::snapshot::RetryPolicy;
use crate::telemetry::ResponseFlags;
use crate::upstream::{ConnectError, random};

/// How a stream ended that had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// The connection was closed.
    ConnectionTermination,
    /// RST_STREAM.
    ByPeer,
    /// RST_STREAM with REFUSED_STREAM: the upstream has not looked at the request.
    RefusedStream,
    /// Not HTTP.
    Protocol,
    /// The caller's side failed.
    Local,
}

impl Reset {
    /// Flag and name, as Envoy has them.
    pub(crate) fn flag(self) -> (ResponseFlags, &'static str) {
        match self {
            Reset::ConnectionTermination => (ResponseFlags::UPSTREAM_CONNECTION_TERMINATION, "connection_termination"),
            Reset::ByPeer => (ResponseFlags::UPSTREAM_REMOTE_RESET, "remote_reset"),
            Reset::RefusedStream => (ResponseFlags::UPSTREAM_REMOTE_RESET, "remote_refused_stream_reset"),
            Reset::Protocol => (ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "protocol_error"),
            Reset::Local => (ResponseFlags::LOCAL_RESET, "local_reset"),
        }
    }
}

/// What a failure of hyper means.
pub(crate) fn reset_of(error: &hyper::Error) -> Reset {
    if error.is_parse() {
        return Reset::Protocol;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            if h2.is_reset() && h2.is_remote() {
                return match h2.reason() {
                    Some(h2::Reason::REFUSED_STREAM) => Reset::RefusedStream,
                    _ => Reset::ByPeer,
                };
            }
            return match h2.reason() {
                Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR | h2::Reason::COMPRESSION_ERROR) => {
                    Reset::Protocol
                }
                _ => Reset::ConnectionTermination,
            };
        }
        source = cause.source();
    }
    if error.is_user() {
        Reset::Local
    } else {
        Reset::ConnectionTermination
    }
}

/// Why an attempt gave no response.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// No endpoint takes traffic.
    NoEndpoint,
    /// A limit of the cluster is reached.
    Overflow,
    /// No connection.
    Connect(Rc<ConnectError>),
    /// The stream ended before a response.
    Reset(Reset),
    /// `per_try_timeout`.
    TryTimeout,
    /// The whole request's timeout.
    Timeout,
    /// Nothing moved for too long.
    Idle,
    /// The request did not come wholly in time.
    ReceiveTimeout,
    /// The stream took longer than `max_stream_duration` lets it.
    Duration,
    /// The authority cannot be sent as HTTP/2, or as the target of a CONNECT.
    BadAuthority,
}

impl Failure {
    /// The response that stands for it. `retried`: it was not the first attempt.
    pub(crate) fn into_local(self, retried: bool) -> Local {
        let again = if retried { "retried and the latest " } else { "" };
        let unavailable = |reason: Cow<'static, str>, flag, details: Cow<'static, str>| {
            Local::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("upstream connect error or disconnect/reset before headers. {again}reset reason: {reason}"),
                flag,
                details,
            )
        };
        match self {
            Failure::NoEndpoint => Local::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no healthy upstream",
                ResponseFlags::NO_HEALTHY_UPSTREAM,
                "no_healthy_upstream",
            ),
            Failure::Overflow => {
                let mut local = unavailable(
                    "overflow".into(),
                    ResponseFlags::UPSTREAM_OVERFLOW,
                    "upstream_reset_before_response_started{overflow}".into(),
                );
                local
                    .headers
                    .insert(OVERLOADED.clone(), http::HeaderValue::from_static("true"));
                local
            }
            Failure::Connect(error) => {
                let reason = match &*error {
                    ConnectError::Timeout { .. } => "connection timeout",
                    ConnectError::Tcp { .. } | ConnectError::Tls { .. } => "remote connection failure",
                    ConnectError::Overflow => "overflow",
                };
                // As Envoy: callers learn of TLS, the log learns of everything.
                let text = match error.tls_failure() {
                    Some(why) => Cow::Owned(format!("{reason}, transport failure reason: {why}")),
                    None => Cow::Borrowed(reason),
                };
                let mut details = reason.replace(' ', "_");
                if let Some(why) = error.transport_failure() {
                    details = format!("{details}|{why}");
                }
                unavailable(
                    text,
                    ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
                    format!("upstream_reset_before_response_started{{{details}}}").into(),
                )
            }
            Failure::Reset(reset) => {
                let (flag, name) = reset.flag();
                let mut local = unavailable(
                    name.replace('_', " ").into(),
                    flag,
                    format!("upstream_reset_before_response_started{{{name}}}").into(),
                );
                if reset == Reset::Protocol {
                    local.status = StatusCode::BAD_GATEWAY;
                }
                local
            }
            Failure::TryTimeout => Local::new(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream request timeout",
                ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
                "upstream_per_try_timeout",
            ),
            Failure::Timeout => Local::new(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream request timeout",
                ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
                "response_timeout",
            ),
            Failure::Idle => Local::new(
                StatusCode::GATEWAY_TIMEOUT,
                "stream timeout",
                ResponseFlags::STREAM_IDLE_TIMEOUT,
                "stream_idle_timeout",
            ),
            Failure::ReceiveTimeout => Local {
                close: true,
                ..Local::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "request timeout",
                    ResponseFlags::NONE,
                    "request_overall_timeout",
                )
            },
            Failure::Duration => Local {
                grpc_status: Some(grpc::DEADLINE_EXCEEDED),
                ..Local::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "downstream duration timeout",
                    ResponseFlags::NONE,
                    "max_duration_timeout",
                )
            },
            Failure::BadAuthority => Local::bad_request("invalid_authority"),
        }
    }

    /// Whether the cluster counts it as an answer of 5xx: what went wrong between it and this proxy.
    pub(crate) fn is_of_cluster(&self) -> bool {
        !matches!(
            self,
            Failure::Reset(Reset::Local)
                | Failure::Idle
                | Failure::ReceiveTimeout
                | Failure::Duration
                | Failure::BadAuthority
        )
    }

    /// Whether the policy has a condition for it. `sent`: some of the request may have reached the upstream.
    pub(crate) fn is_retriable(&self, policy: &RetryPolicy, sent: bool) -> bool {
        let on = &policy.on;
        let any_reset = on.server_error || on.gateway_error || on.reset;
        match self {
            Failure::Connect(error) if error.is_overflow() => false,
            Failure::Connect(_) => any_reset || on.connect_failure || on.reset_before_request,
            Failure::Reset(Reset::RefusedStream) => any_reset || on.refused_stream || on.reset_before_request && !sent,
            Failure::Reset(Reset::Local) => false,
            Failure::Reset(_) => any_reset || on.reset_before_request && !sent,
            Failure::TryTimeout => any_reset,
            Failure::NoEndpoint
            | Failure::Overflow
            | Failure::Timeout
            | Failure::Idle
            | Failure::ReceiveTimeout
            | Failure::Duration
            | Failure::BadAuthority => false,
        }
    }
}

/// Whether a response is to be retried.
pub(crate) fn is_retriable(policy: &RetryPolicy, status: StatusCode, headers: &HeaderMap) -> bool {
    let limited = || headers.contains_key(&RATE_LIMITED);
    // Without a condition that holds, which is nearly always, headers are not looked at.
    if !(meets_condition(policy, status, headers) || policy.on.rate_limited && limited()) {
        return false;
    }
    policy.on.rate_limited || !limited()
}

/// Whether the policy has a condition for a response.
fn meets_condition(policy: &RetryPolicy, status: StatusCode, headers: &HeaderMap) -> bool {
    let on = &policy.on;
    let code = status.as_u16();
    if on.server_error && code >= 500
        || on.gateway_error && matches!(code, 502..=504)
        || on.retriable_4xx && code == 409
        || on.status_codes && policy.status_codes.contains(&code)
        || on.headers
            && policy
                .retriable_headers
                .iter()
                .any(|h| response_header_matches(h, headers))
    {
        return true;
    }
    if !(on.grpc_cancelled
        || on.grpc_deadline_exceeded
        || on.grpc_internal
        || on.grpc_resource_exhausted
        || on.grpc_unavailable)
    {
        return false;
    }
    match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
        Some(b"1") => on.grpc_cancelled,
        Some(b"4") => on.grpc_deadline_exceeded,
        Some(b"8") => on.grpc_resource_exhausted,
        Some(b"13") => on.grpc_internal,
        Some(b"14") => on.grpc_unavailable,
        _ => false,
    }
}

/// Time to wait before retry number `retry` (from 1): random below a bound that doubles, so that callers that failed
/// together do not come back together.
pub(crate) fn back_off(policy: &RetryPolicy, retry: u32) -> Duration {
    let doubled = policy
        .base_interval
        .saturating_mul(1_u32.checked_shl(retry.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
    let bound = doubled.min(policy.max_interval.max(policy.base_interval));
    let micros = u32::try_from(bound.as_micros()).unwrap_or(u32::MAX);
    Duration::from_micros(u64::from(random(micros)))
}
