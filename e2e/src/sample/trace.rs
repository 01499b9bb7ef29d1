//! Trace headers: an instrumented application hands them on with the calls that it makes for a request.

use http::HeaderMap;

/// The headers of the common tracing systems, and those by which a canary request is told.
const NAMES: &[&str] = &[
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "traceparent",
    "tracestate",
    "baggage",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "sw8",
    "grpc-trace-bin",
    "x-dark-launch",
    "end-user",
];

/// The headers of a request that go on with its calls.
pub fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for name in NAMES {
        for value in headers.get_all(*name) {
            out.append(*name, value.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trace_headers_go_on() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "r1".parse().expect("a value"));
        headers.insert("traceparent", "00-a-b-01".parse().expect("a value"));
        headers.insert("authorization", "secret".parse().expect("a value"));
        let out = forwarded(&headers);
        assert_eq!(out.len(), 2);
        assert_eq!(
            out.get("x-request-id").map(http::HeaderValue::as_bytes),
            Some(&b"r1"[..])
        );
    }
}
