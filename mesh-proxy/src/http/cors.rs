//! Cross-origin requests.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::reply::Local;
use crate::snapshot::CorsPolicy;
use crate::telemetry::ResponseFlags;

/// The origin of a request, when the policy allows it.
pub(super) fn allowed_origin(policy: &CorsPolicy, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let text = origin.to_str().ok()?;
    policy
        .allow_origins
        .iter()
        .any(|o| o.matches(text) || is_any(o))
        .then(|| origin.clone())
}

fn is_any(origin: &crate::snapshot::StringMatch) -> bool {
    matches!(&origin.pattern, crate::snapshot::StringPattern::Exact(any) if any == "*")
}

/// The answer to a preflight request; `None` when this is none, or when it is the application's to answer.
pub(super) fn preflight(policy: &CorsPolicy, method: &Method, headers: &HeaderMap) -> Option<Local> {
    if *method != Method::OPTIONS
        || !headers.contains_key(header::ORIGIN)
        || headers
            .get(header::ACCESS_CONTROL_REQUEST_METHOD)
            .is_none_or(HeaderValue::is_empty)
    {
        return None;
    }
    let origin = allowed_origin(policy, headers);
    if origin.is_none() && policy.forward_not_matching_preflights {
        return None;
    }
    let mut local = Local::new(StatusCode::OK, "", ResponseFlags::NONE, "cors_response");
    let Some(origin) = origin else { return Some(local) };
    let mut set = |name: HeaderName, value: &Option<HeaderValue>| {
        if let Some(value) = value {
            local.headers.insert(name, value.clone());
        }
    };
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, &Some(origin));
    set(header::ACCESS_CONTROL_ALLOW_METHODS, &policy.allow_methods);
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, &policy.allow_headers);
    set(header::ACCESS_CONTROL_EXPOSE_HEADERS, &policy.expose_headers);
    set(header::ACCESS_CONTROL_MAX_AGE, &policy.max_age);
    if policy.allow_credentials {
        set(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            &Some(HeaderValue::from_static("true")),
        );
    }
    Some(local)
}

/// Marks the response to a request from an allowed origin.
pub(super) fn response(policy: &CorsPolicy, origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if policy.allow_credentials {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    if let Some(expose) = &policy.expose_headers {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
    }
}
