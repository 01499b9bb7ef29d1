//! What each operator yields.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::super::flags::ResponseFlags;
use super::super::{RequestRecord, TcpRecord};
use crate::listener::ConnInfo;
use mesh_api::envoy::format::{AddressPart, Field, GrpcForm, Op, Side};

/// One value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Nothing: `-` in text, `null` in JSON.
    None,
    Number(u64),
    Text(Cow<'a, str>),
}

/// A request, or a connection without one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    conn: &'a ConnInfo,
    http: Option<&'a RequestRecord>,
    tcp: Option<&'a TcpRecord>,
    request: Option<&'a HeaderMap>,
    response: Option<&'a HeaderMap>,
    now: Instant,
}

impl<'a> Source<'a> {
    pub(super) fn request(record: &'a RequestRecord, conn: &'a ConnInfo) -> Self {
        Source {
            conn,
            http: Some(record),
            tcp: None,
            request: record.request_headers.as_deref(),
            response: record.response_headers.as_deref(),
            now: record.end.unwrap_or_else(Instant::now),
        }
    }

    pub(super) fn connection(record: &'a TcpRecord, conn: &'a ConnInfo) -> Self {
        Source {
            conn,
            http: None,
            tcp: Some(record),
            request: None,
            response: None,
            now: Instant::now(),
        }
    }

    /// With these headers in place of those of the record.
    pub(super) fn with_headers(mut self, request: Option<&'a HeaderMap>, response: Option<&'a HeaderMap>) -> Self {
        self.request = request.or(self.request);
        self.response = response.or(self.response);
        self
    }

    /// The field that both kinds of record have.
    fn both<T>(&self, http: impl FnOnce(&'a RequestRecord) -> T, tcp: impl FnOnce(&'a TcpRecord) -> T) -> Option<T> {
        match (self.http, self.tcp) {
            (Some(record), _) => Some(http(record)),
            (_, Some(record)) => Some(tcp(record)),
            _ => None,
        }
    }

    pub(super) fn value(&self, op: &'a Op) -> Value<'a> {
        let tls = self.conn.tls.as_ref();
        match op {
            Op::StartTime(pattern) => {
                let start = self.both(|r| r.start_time, |r| Some(r.start_time)).flatten();
                text(start.and_then(|at| time(at, pattern)))
            }
            Op::Duration => self.since_start(self.now),
            Op::RequestDuration => self.http_time(|r| r.request_done),
            Op::ResponseDuration => self.http_time(|r| r.response_start),
            Op::ResponseTxDuration => match self.http.and_then(|r| r.response_start) {
                Some(start) => millis(self.now.saturating_duration_since(start)),
                None => Value::None,
            },
            Op::Protocol => text(self.http.and_then(|r| protocol(r.version))),
            Op::ResponseCode => Value::Number(self.http.map_or(0, |r| r.response_code.into())),
            Op::ResponseCodeDetails => text(self.http.map(|r| no_blanks(&r.details))),
            Op::TerminationDetails => text(
                self.both(
                    |r| r.termination_details.as_deref(),
                    |r| r.termination_details.as_deref(),
                )
                .flatten()
                .map(no_blanks),
            ),
            Op::Flags => self.flags(ResponseFlags::write_short),
            Op::FlagsLong => self.flags(ResponseFlags::write_long),
            Op::BytesReceived => number(self.both(|r| r.bytes_received, |r| r.bytes_received)),
            Op::BytesSent => number(self.both(|r| r.bytes_sent, |r| r.bytes_sent)),
            Op::RequestHeaderBytes => number(self.http.map(|r| r.request_header_bytes)),
            Op::ResponseHeaderBytes => number(self.http.map(|r| r.response_header_bytes)),
            Op::Address(side, part) => address(self.address(*side), *part),
            Op::UpstreamCluster => {
                let name = self.both(
                    // As in Envoy, one that is not there is not named.
                    |r| {
                        let there = !r.flags.intersects(ResponseFlags::NO_CLUSTER_FOUND);
                        let named = r.cluster_name.as_ref().filter(|_| there);
                        r.cluster.as_ref().map(|c| &c.name).or(named)
                    },
                    |r| r.cluster.as_ref().map(|c| &c.name).or(r.cluster_name.as_ref()),
                );
                arc(name.flatten())
            }
            Op::UpstreamFailure => arc(self
                .both(|r| r.upstream_failure.as_ref(), |r| r.upstream_failure.as_ref())
                .flatten()),
            Op::UpstreamPeerUri => arc(self
                .both(|r| r.upstream_principal.as_ref(), |r| r.upstream_principal.as_ref())
                .flatten()),
            Op::Attempts => number(self.http.map(|r| r.attempts.into())),
            Op::PeerUri => arc(tls.and_then(|t| t.peer_uri.as_ref())),
            Op::LocalUri => arc(tls.and_then(|t| t.local_uri.as_ref())),
            Op::PeerSubject => arc(tls.and_then(|t| t.peer_subject.as_ref())),
            Op::PeerDns => {
                let names = tls.map(|t| t.peer_dns.as_slice()).unwrap_or_default();
                text((!names.is_empty()).then(|| names.join(",")))
            }
            Op::TlsVersion => arc(tls.and_then(|t| t.version.as_ref())),
            Op::ServerName => arc(self.conn.sni.as_ref()),
            Op::RouteName => arc(self.http.and_then(|r| r.route.as_ref()).map(|r| &r.name)),
            Op::FilterChainName => arc(Some(&self.conn.chain.name)),
            Op::GrpcStatus(form) => self.grpc_status(*form),
            Op::Request(fields) => text(fields.iter().find_map(|f| self.request_field(f))),
            Op::RequestWithoutQuery(fields) => {
                let without_query = |v: Cow<'a, str>| match v.split_once('?') {
                    Some((path, _)) => Cow::Owned(path.to_owned()),
                    None => v,
                };
                text(fields.iter().find_map(|f| self.request_field(f)).map(without_query))
            }
            Op::Response(names) => header(self.response, names),
            Op::Trailer(names) => header(self.http.and_then(|r| r.response_trailers.as_deref()), names),
            Op::QueryParameter(name) => {
                let query = self.http.and_then(|r| r.uri.query()).unwrap_or_default();
                let pairs = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
                text(pairs.into_iter().find(|(k, _)| k == name).map(|(_, v)| v))
            }
            Op::Fixed(value) => text(value.as_deref()),
        }
    }

    fn since_start(&self, at: Instant) -> Value<'a> {
        match self.both(|r| r.start, |r| r.start) {
            Some(start) => millis(at.saturating_duration_since(start)),
            None => Value::None,
        }
    }

    fn http_time(&self, at: impl FnOnce(&RequestRecord) -> Option<Instant>) -> Value<'a> {
        match self.http.and_then(at) {
            Some(at) => self.since_start(at),
            None => Value::None,
        }
    }

    fn flags(&self, write: fn(ResponseFlags, &mut String) -> std::fmt::Result) -> Value<'a> {
        let flags = self.both(|r| r.flags, |r| r.flags).unwrap_or_default();
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = write(flags, &mut out);
        Value::Text(out.into())
    }

    fn address(&self, side: Side) -> Option<SocketAddr> {
        match side {
            Side::UpstreamRemote => self.both(|r| r.upstream_host, |r| r.upstream_host).flatten(),
            Side::UpstreamLocal => self.both(|r| r.upstream_local, |r| r.upstream_local).flatten(),
            Side::DownstreamLocal => Some(self.conn.destination),
            Side::DownstreamRemote => Some(self.conn.remote),
        }
    }

    fn request_field(&self, field: &'a Field) -> Option<Cow<'a, str>> {
        let record = self.http?;
        match field {
            Field::Method => Some(record.method.as_str().into()),
            Field::Path => Some(record.uri.path_and_query().map_or("/", |p| p.as_str()).into()),
            Field::Authority => record.authority.as_ref().map(lossy),
            Field::Scheme => Some(record.scheme.into()),
            Field::OriginalPath => record.original_path.as_ref().map(lossy),
            Field::RequestId => record.request_id.as_ref().map(lossy),
            Field::Header(name) => self.request?.get(name).map(lossy),
        }
    }

    fn grpc_status(&self, form: GrpcForm) -> Value<'a> {
        let Some(status) = self.http.and_then(|r| r.grpc_status) else {
            return Value::None;
        };
        match (form, GRPC.get(usize::from(status))) {
            (GrpcForm::Camel, Some((camel, _))) => Value::Text((*camel).into()),
            (GrpcForm::Snake, Some((_, snake))) => Value::Text((*snake).into()),
            (GrpcForm::Number, _) => Value::Number(status.into()),
            (_, None) => Value::Text(status.to_string().into()),
        }
    }
}

/// By number.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// Empty texts count as missing, as they do for Envoy.
fn text<'a, T: Into<Cow<'a, str>>>(value: Option<T>) -> Value<'a> {
    match value.map(Into::into) {
        Some(text) if !text.is_empty() => Value::Text(text),
        _ => Value::None,
    }
}

fn arc(value: Option<&Arc<str>>) -> Value<'_> {
    text(value.map(|v| &**v))
}

fn number(value: Option<u64>) -> Value<'static> {
    value.map_or(Value::None, Value::Number)
}

fn millis(duration: Duration) -> Value<'static> {
    Value::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn lossy(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

fn header<'a>(headers: Option<&'a HeaderMap>, names: &[HeaderName]) -> Value<'a> {
    let found = names.iter().find_map(|name| headers?.get(name));
    text(found.map(lossy))
}

/// A column of its own stays one column.
fn no_blanks(value: &str) -> Cow<'_, str> {
    if value.contains(char::is_whitespace) {
        value.replace(char::is_whitespace, "_").into()
    } else {
        value.into()
    }
}

fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2"),
        _ => None,
    }
}

fn address(address: Option<SocketAddr>, part: AddressPart) -> Value<'static> {
    match (address, part) {
        (None, _) => Value::None,
        (Some(address), AddressPart::Whole) => Value::Text(address.to_string().into()),
        (Some(address), AddressPart::Ip) => Value::Text(address.ip().to_string().into()),
        (Some(address), AddressPart::Port) => Value::Number(address.port().into()),
    }
}

fn time(at: SystemTime, pattern: &str) -> Option<String> {
    let at = jiff::Timestamp::try_from(at).ok()?;
    jiff::fmt::strtime::format(pattern, at).ok()
}
