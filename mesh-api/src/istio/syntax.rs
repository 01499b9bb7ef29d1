//! Forms of names, hosts, addresses and numbers that several kinds check.

use std::net::IpAddr;

/// Whether `text` is a name as RFC 1123 has it: one label of at most 63 characters, or with `dots` several of them, of
/// at most 253 together.
pub(crate) fn is_dns1123(text: &str, dots: bool) -> bool {
    let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    lower
        && if dots {
            text.len() <= 253 && text.split('.').all(is_label)
        } else {
            is_label(text)
        }
}

fn is_label(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether `text` is a host name, short or full; a dot at the end is allowed.
pub(crate) fn is_host(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 255 && text.split('.').all(is_label)
}

/// Whether `text` is a host name, `*`, `*.host` or `*-host`.
pub(crate) fn is_wildcard_host(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    match text.strip_prefix('*') {
        // The `*` takes the place of the first part of a label, or of whole labels.
        Some(rest) => rest
            .strip_prefix('.')
            .map_or_else(|| is_host(&format!("x{rest}")), is_host),
        None => is_host(text),
    }
}

/// Whether everything that `name` matches is matched by `pattern` too (`*.a.example.com` is within `*.example.com`).
pub(crate) fn host_within(name: &str, pattern: &str) -> bool {
    let (name, pattern) = (name.to_ascii_lowercase(), pattern.to_ascii_lowercase());
    match pattern.strip_prefix('*') {
        Some(suffix) => name.strip_prefix('*').unwrap_or(&name).ends_with(suffix),
        None => name == pattern,
    }
}

/// Whether `text` is an address.
pub(crate) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Whether `text` is an address or a range (`10.0.0.0/8`).
pub(crate) fn is_ip_or_cidr(text: &str) -> bool {
    is_ip(text) || text.parse::<ipnet::IpNet>().is_ok()
}

/// Whether `text` can be the name of a header.
pub(crate) fn is_header_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Protocols that a port can name, in any case.
pub(crate) const PROTOCOLS: [&str; 13] = [
    "HTTP",
    "HTTP2",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "TCP",
    "TLS",
    "UDP",
    "MONGO",
    "MYSQL",
    "REDIS",
    "HBONE",
    "HTTP_PROXY",
];

/// Whether `text` is a protocol, in any case.
pub(crate) fn is_protocol(text: &str) -> bool {
    PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(text))
}

/// Names of gRPC's status codes, by their number.
pub(crate) const GRPC_STATUS: [&str; 17] = [
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

/// Conditions that `retryOn` can name.
pub(crate) const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in [
            "reviews",
            "reviews.prod.svc.cluster.local",
            "example.com.",
            "*.example.com",
            "*",
            "*-eu.example.com",
        ] {
            assert!(is_wildcard_host(good), "{good}");
        }
        for bad in [
            "", "*.", "a..b", "-a", "a-", "a_b", "a.*.b", "**", "http://a", "a:80", "a/b",
        ] {
            assert!(!is_wildcard_host(bad), "{bad}");
        }
    }

    #[test]
    fn within() {
        for (name, pattern, want) in [
            ("a.example.com", "*.example.com", true),
            ("*.a.example.com", "*.example.com", true),
            ("A.example.com", "a.EXAMPLE.com", true),
            ("example.com", "*.example.com", false),
            ("*.example.com", "a.example.com", false),
            ("anything", "*", true),
        ] {
            assert_eq!(host_within(name, pattern), want, "{name} in {pattern}");
        }
    }
}
