//! Headers that a proxy adds, removes and changes.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Downstream;
use crate::snapshot::{AppendAction, HeaderAdd, HeaderOps, HttpConnectionManager};

macro_rules! names {
    ($($ident:ident $name:literal;)*) => {
        $(pub(super) static $ident: HeaderName = HeaderName::from_static($name);)*
    };
}

names! {
    ATTEMPT_COUNT "x-envoy-attempt-count";
    DECORATOR "x-envoy-decorator-operation";
    EXPECTED_TIMEOUT "x-envoy-expected-rq-timeout-ms";
    EXTERNAL_ADDRESS "x-envoy-external-address";
    FORWARDED_FOR "x-forwarded-for";
    FORWARDED_PROTO "x-forwarded-proto";
    INTERNAL "x-envoy-internal";
    KEEP_ALIVE "keep-alive";
    ORIGINAL_HOST "x-envoy-original-host";
    ORIGINAL_PATH "x-envoy-original-path";
    OVERLOADED "x-envoy-overloaded";
    PROXY_CONNECTION "proxy-connection";
    RATE_LIMITED "x-envoy-ratelimited";
    REQUEST_ID "x-request-id";
    SERVICE_TIME "x-envoy-upstream-service-time";
}

/// Headers by which a proxy in front would steer this one; nobody else may.
static STEERING: [HeaderName; 15] = [
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-internal"),
];

/// What callers from outside may not say, at an edge.
static EDGE_ONLY: [HeaderName; 5] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-envoy-attempt-count"),
];

/// Headers that a `connection` header cannot take away: a caller must not make this proxy forget what it was told.
fn is_protected(name: &str) -> bool {
    name.starts_with("x-forwarded")
        || name.starts_with("x-envoy")
        || matches!(
            name,
            "host" | "content-length" | "transfer-encoding" | "authorization" | "cookie" | "x-request-id" | "te"
        )
}

/// Which of the headers that this proxy acts upon a message has. One look at all names stands in for a look-up of each:
/// most messages have hardly any of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen(u16);

impl Seen {
    pub(super) const CONNECTION: Seen = Seen(1);
    pub(super) const KEEP_ALIVE: Seen = Seen(1 << 1);
    pub(super) const PROXY_CONNECTION: Seen = Seen(1 << 2);
    pub(super) const UPGRADE: Seen = Seen(1 << 3);
    pub(super) const TE: Seen = Seen(1 << 4);
    pub(super) const EXPECT: Seen = Seen(1 << 5);
    pub(super) const CONTENT_TYPE: Seen = Seen(1 << 6);
    /// `x-envoy-decorator-operation`.
    pub(super) const DECORATOR: Seen = Seen(1 << 7);
    /// `x-envoy-peer-metadata` and `x-envoy-peer-metadata-id`.
    pub(super) const PEER: Seen = Seen(1 << 8);
    /// Of [`EDGE_ONLY`], or `x-envoy-external-address`.
    pub(super) const EDGE: Seen = Seen(1 << 9);
    /// Another one that begins with `x-envoy-`, perhaps of [`STEERING`].
    pub(super) const STEERING: Seen = Seen(1 << 10);

    pub(super) fn among(headers: &HeaderMap) -> Self {
        let of = |name: &HeaderName| match name.as_str() {
            "connection" => Seen::CONNECTION,
            "keep-alive" => Seen::KEEP_ALIVE,
            "proxy-connection" => Seen::PROXY_CONNECTION,
            "upgrade" => Seen::UPGRADE,
            "te" => Seen::TE,
            "expect" => Seen::EXPECT,
            "content-type" => Seen::CONTENT_TYPE,
            name => name.strip_prefix("x-envoy-").map_or(Seen(0), |rest| match rest {
                "decorator-operation" => Seen::DECORATOR,
                "peer-metadata" | "peer-metadata-id" => Seen::PEER,
                "attempt-count"
                | "downstream-service-cluster"
                | "downstream-service-node"
                | "external-address"
                | "original-path" => Seen::EDGE,
                "upstream-service-time" => Seen(0),
                _ => Seen::STEERING,
            }),
        };
        Seen(headers.keys().fold(0, |all, name| all | of(name).0))
    }

    pub(super) fn add(&mut self, which: Seen) {
        self.0 |= which.0;
    }

    pub(super) fn has(self, which: Seen) -> bool {
        self.0 & which.0 != 0
    }
}

/// Takes away what belongs to the caller's connection only. `keep_upgrade`: the request is an upgrade that is let through.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap, seen: Seen, keep_upgrade: bool) {
    if seen.has(Seen::CONNECTION) {
        for name in nominated(headers) {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    if seen.has(Seen::KEEP_ALIVE) {
        headers.remove(&KEEP_ALIVE);
    }
    if seen.has(Seen::PROXY_CONNECTION) {
        headers.remove(&PROXY_CONNECTION);
    }
    if keep_upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    } else if seen.has(Seen::UPGRADE) {
        headers.remove(header::UPGRADE);
    }
    if seen.has(Seen::TE)
        && let Some(te) = headers.get(header::TE)
        && te != "trailers"
    {
        let trailers = te
            .to_str()
            .is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers")));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Headers that `connection` names as belonging to it, and that may go.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|t| {
            !["", "close", "keep-alive", "upgrade"]
                .iter()
                .any(|known| t.eq_ignore_ascii_case(known))
        })
        .filter_map(|t| HeaderName::try_from(t).ok())
        .filter(|name| !is_protected(name.as_str()))
        .collect()
}

/// What Envoy's connection manager does to the headers of every request.
pub(super) fn mutate_request(headers: &mut HeaderMap, seen: Seen, manager: &HttpConnectionManager, conn: &Downstream) {
    if seen.has(Seen::STEERING) {
        for name in &STEERING {
            headers.remove(name);
        }
    }
    let secure = conn.info.tls.is_some();
    let proto = HeaderValue::from_static(if secure { "https" } else { "http" });
    if manager.use_remote_address {
        if seen.has(Seen::EDGE) || seen.has(Seen::DECORATOR) {
            for name in EDGE_ONLY.iter().chain([&EXTERNAL_ADDRESS]) {
                headers.remove(name);
            }
        }
        let remote = conn.info.remote;
        if manager.xff_num_trusted_hops == 0 {
            headers.insert(FORWARDED_PROTO.clone(), proto);
            if let Ok(address) = HeaderValue::from_str(&plain_ip(remote).to_string()) {
                headers.insert(EXTERNAL_ADDRESS.clone(), address);
            }
        } else {
            headers.entry(&FORWARDED_PROTO).or_insert(proto);
        }
        let caller = plain_ip(remote);
        // As in Envoy: others cannot tell one host's loopback from another's.
        let told = if caller.is_loopback() { *LOCAL_ADDRESS } else { caller };
        append_forwarded_for(headers, told);
    } else {
        headers.entry(&FORWARDED_PROTO).or_insert(proto);
    }
    request_id(headers, manager);
    super::xfcc::apply(manager.xfcc, conn, headers);
}

/// An IPv4 address that came in by an IPv6 socket is an IPv4 address.
fn plain_ip(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

/// Where this proxy is, for those who are told of it in place of a loopback address.
pub(super) static LOCAL_ADDRESS: LazyLock<IpAddr> = LazyLock::new(local_address);

/// The first IPv4 address of this host that is not a loopback.
fn local_address() -> IpAddr {
    let found = nix::ifaddrs::getifaddrs().ok().and_then(|mut all| {
        all.find_map(|interface| {
            let ip = interface.address?.as_sockaddr_in()?.ip();
            (!ip.is_loopback()).then_some(ip)
        })
    });
    IpAddr::V4(found.unwrap_or(Ipv4Addr::LOCALHOST))
}

/// Adds an address to `x-forwarded-for`.
pub(super) fn append_forwarded_for(headers: &mut HeaderMap, remote: IpAddr) {
    let mut all = Vec::new();
    for value in headers.get_all(&FORWARDED_FOR) {
        if !all.is_empty() {
            all.push(b',');
        }
        all.extend_from_slice(value.as_bytes());
    }
    if !all.is_empty() {
        all.push(b',');
    }
    all.extend_from_slice(remote.to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        headers.insert(FORWARDED_FOR.clone(), value);
    }
}

fn request_id(headers: &mut HeaderMap, manager: &HttpConnectionManager) {
    if !manager.generate_request_id {
        return;
    }
    let present = headers.contains_key(&REQUEST_ID);
    // At an edge, a caller's own is not believed.
    if present && (!manager.use_remote_address || manager.preserve_external_request_id) {
        return;
    }
    headers.insert(REQUEST_ID.clone(), new_request_id());
}

/// A random UUID (version 4).
fn new_request_id() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    thread_local!(static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng()));
    // Unique, not secret.
    let mut bytes: [u8; 16] = RANDOM.with_borrow_mut(Rng::random);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 0x0f)];
        at += 2;
    }
    // Hexadecimal digits and dashes are always a header value.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Applies one list of operations: additions, then removals.
pub(super) fn apply(ops: &HeaderOps, headers: &mut HeaderMap) {
    for one in &ops.add {
        add(one, one.value.clone(), headers);
    }
    for name in &ops.remove {
        headers.remove(name);
    }
}

/// One addition, with its value.
pub(super) fn add(add: &HeaderAdd, value: HeaderValue, headers: &mut HeaderMap) {
    match add.action {
        AppendAction::Append => {
            headers.append(add.name.clone(), value);
        }
        AppendAction::AddIfAbsent => {
            headers.entry(&add.name).or_insert(value);
        }
        AppendAction::Overwrite => {
            headers.insert(add.name.clone(), value);
        }
        AppendAction::OverwriteIfExists => {
            if let Some(present) = headers.get_mut(&add.name) {
                *present = value;
            }
        }
    }
}

/// Another host; the one before is told once, as it came.
pub(super) fn rewrite_host(headers: &mut HeaderMap, host: HeaderValue) {
    if let Some(before) = headers.insert(header::HOST, host) {
        headers.entry(&ORIGINAL_HOST).or_insert(before);
    }
}

/// A number as a header value, without an allocation for the smallest.
pub(super) fn number(n: u64) -> HeaderValue {
    const SMALL: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    match usize::try_from(n).ok().and_then(|n| SMALL.get(n)) {
        Some(digit) => HeaderValue::from_static(digit),
        None => HeaderValue::from(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids() {
        let id = new_request_id();
        let text = id.to_str().unwrap();
        assert_eq!(text.len(), 36);
        let dashes: Vec<usize> = text.match_indices('-').map(|(i, _)| i).collect();
        assert_eq!(dashes, [8, 13, 18, 23]);
        assert_eq!(&text[14..15], "4");
        assert_ne!(id, new_request_id());
    }

    #[test]
    fn one_look_tells_which_headers_are_there() {
        let seen = |names: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
            }
            Seen::among(&headers)
        };
        assert_eq!(
            seen(&["host", "accept", "x-envoy-upstream-service-time"]),
            Seen::default()
        );
        // Whatever is to be taken away must be seen, or it would stay.
        for name in &STEERING {
            assert!(seen(&[name.as_str()]).has(Seen::STEERING), "{name}");
        }
        for name in EDGE_ONLY.iter().chain([&EXTERNAL_ADDRESS]) {
            let seen = seen(&[name.as_str()]);
            assert!(seen.has(Seen::EDGE) || seen.has(Seen::DECORATOR), "{name}");
        }
        let both = seen(&["te", "x-envoy-peer-metadata-id"]);
        assert!(both.has(Seen::TE) && both.has(Seen::PEER) && !both.has(Seen::UPGRADE));
    }

    #[test]
    fn connection_headers_go_and_protected_ones_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private, x-forwarded-for, host"),
            ("x-private", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("host", "a"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("te", "gzip, trailers"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let seen = Seen::among(&headers);
        strip_hop_by_hop(&mut headers, seen, false);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "te", "x-forwarded-for"]);
        assert_eq!(headers["te"], "trailers");
    }
}
