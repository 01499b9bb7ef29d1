//! Envoy's format strings, of access logs and of headers: the command operators that mesh-proxy implements.

use http::HeaderName;

/// A compiled format string.
#[derive(Debug, Default)]
pub struct Template {
    /// In their order.
    pub parts: Vec<Part>,
}

#[derive(Debug)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// An operator, and the bytes that it may take at most (`:Z`).
    Op(Op, Option<usize>),
}

/// A header, or what HTTP/1 has in its request line.
#[derive(Debug, PartialEq, Eq)]
pub enum Field {
    Method,
    Path,
    Authority,
    Scheme,
    OriginalPath,
    RequestId,
    Header(HeaderName),
}

/// Which part of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPart {
    Whole,
    Ip,
    Port,
}

/// Which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    UpstreamRemote,
    UpstreamLocal,
    DownstreamLocal,
    DownstreamRemote,
}

/// Command operators.
#[derive(Debug, PartialEq, Eq)]
pub enum Op {
    /// In UTC, by this pattern of `strftime`.
    StartTime(String),
    Duration,
    RequestDuration,
    ResponseDuration,
    ResponseTxDuration,
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    TerminationDetails,
    Flags,
    FlagsLong,
    BytesReceived,
    BytesSent,
    RequestHeaderBytes,
    ResponseHeaderBytes,
    Address(Side, AddressPart),
    UpstreamCluster,
    UpstreamFailure,
    UpstreamPeerUri,
    Attempts,
    PeerUri,
    LocalUri,
    PeerSubject,
    PeerDns,
    TlsVersion,
    ServerName,
    RouteName,
    FilterChainName,
    GrpcStatus(GrpcForm),
    /// The first that is there.
    Request(Vec<Field>),
    RequestWithoutQuery(Vec<Field>),
    Response(Vec<HeaderName>),
    Trailer(Vec<HeaderName>),
    QueryParameter(String),
    /// The same for the whole life of the process: resolved when compiled.
    Fixed(Option<String>),
}

/// How a gRPC status is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcForm {
    Camel,
    Snake,
    Number,
}

const DEFAULT_TIME: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";

impl Template {
    /// Compiles a format string.
    ///
    /// # Errors
    /// Names the operator that is unknown or malformed.
    pub fn compile(format: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut text = String::new();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let (op, limit, after) = operator(after)?;
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Op(op, limit));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Template { parts })
    }

    /// Whether headers of the request or the response are read, which then have to be kept.
    pub fn wants_headers(&self) -> bool {
        let is_header = |f: &Field| matches!(f, Field::Header(_));
        self.parts.iter().any(|part| match part {
            Part::Op(Op::Request(fields) | Op::RequestWithoutQuery(fields), _) => fields.iter().any(is_header),
            Part::Op(Op::Response(_) | Op::Trailer(_), _) => true,
            _ => false,
        })
    }
}

/// Reads `NAME(ARGUMENT):LIMIT%`; the first `%` is behind us. Gives what follows, too.
fn operator(text: &str) -> Result<(Op, Option<usize>, &str), String> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let name_end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(name_end);
    let fail = |why: &str| {
        let shown: String = text.chars().take(60).collect();
        Err(format!("%{shown}: {why}"))
    };
    let mut argument = None;
    if let Some(inner) = rest.strip_prefix('(') {
        // A time pattern may have `)` in it; what ends an argument is followed by `%` or `:`.
        let end = inner
            .match_indices(')')
            .find(|(at, _)| inner[at + 1..].starts_with(['%', ':']))
            .map(|(at, _)| at);
        let Some(end) = end else {
            return fail("the closing parenthesis is missing");
        };
        argument = Some(&inner[..end]);
        rest = &inner[end + 1..];
    }
    let mut limit = None;
    if let Some(after) = rest.strip_prefix(':') {
        let end = after.find('%').unwrap_or(after.len());
        match after[..end].parse() {
            Ok(n) => limit = Some(n),
            Err(_) => return fail("the length after the colon is no number"),
        }
        rest = &after[end..];
    }
    let Some(rest) = rest.strip_prefix('%') else {
        return fail("the closing % is missing (a percent sign itself is written %%)");
    };
    let op = by_name(name, argument).map_err(|why| format!("%{name}%: {why}"))?;
    Ok((op, limit, rest))
}

fn by_name(name: &str, argument: Option<&str>) -> Result<Op, String> {
    use AddressPart::{Ip, Port, Whole};
    use Side::{DownstreamLocal, DownstreamRemote, UpstreamLocal, UpstreamRemote};
    let required = || {
        argument
            .filter(|a| !a.is_empty())
            .ok_or_else(|| "an argument in parentheses is required".to_owned())
    };
    let plain = |op: Op| match argument {
        None => Ok(op),
        Some(_) => Err("takes no argument".to_owned()),
    };
    let address = |side, part| plain(Op::Address(side, part));
    match name {
        "START_TIME" => start_time(argument),
        "DURATION" => plain(Op::Duration),
        "REQUEST_DURATION" => plain(Op::RequestDuration),
        "RESPONSE_DURATION" => plain(Op::ResponseDuration),
        "RESPONSE_TX_DURATION" => plain(Op::ResponseTxDuration),
        "PROTOCOL" => plain(Op::Protocol),
        "RESPONSE_CODE" => plain(Op::ResponseCode),
        "RESPONSE_CODE_DETAILS" => plain(Op::ResponseCodeDetails),
        "CONNECTION_TERMINATION_DETAILS" => plain(Op::TerminationDetails),
        "RESPONSE_FLAGS" => plain(Op::Flags),
        "RESPONSE_FLAGS_LONG" => plain(Op::FlagsLong),
        "BYTES_RECEIVED" => plain(Op::BytesReceived),
        "BYTES_SENT" => plain(Op::BytesSent),
        "REQUEST_HEADERS_BYTES" => plain(Op::RequestHeaderBytes),
        "RESPONSE_HEADERS_BYTES" => plain(Op::ResponseHeaderBytes),
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => address(UpstreamRemote, Whole),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => address(UpstreamRemote, Ip),
        "UPSTREAM_REMOTE_PORT" => address(UpstreamRemote, Port),
        "UPSTREAM_LOCAL_ADDRESS" => address(UpstreamLocal, Whole),
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => address(UpstreamLocal, Ip),
        "UPSTREAM_LOCAL_PORT" => address(UpstreamLocal, Port),
        "DOWNSTREAM_LOCAL_ADDRESS" => address(DownstreamLocal, Whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => address(DownstreamLocal, Ip),
        "DOWNSTREAM_LOCAL_PORT" => address(DownstreamLocal, Port),
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => address(DownstreamRemote, Whole),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            address(DownstreamRemote, Ip)
        }
        "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => address(DownstreamRemote, Port),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => plain(Op::UpstreamCluster),
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => plain(Op::UpstreamFailure),
        "UPSTREAM_PEER_URI_SAN" => plain(Op::UpstreamPeerUri),
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => plain(Op::Attempts),
        "DOWNSTREAM_PEER_URI_SAN" => plain(Op::PeerUri),
        "DOWNSTREAM_LOCAL_URI_SAN" => plain(Op::LocalUri),
        "DOWNSTREAM_PEER_SUBJECT" => plain(Op::PeerSubject),
        "DOWNSTREAM_PEER_DNS_SAN" => plain(Op::PeerDns),
        "DOWNSTREAM_TLS_VERSION" => plain(Op::TlsVersion),
        "REQUESTED_SERVER_NAME" => plain(Op::ServerName),
        "ROUTE_NAME" => plain(Op::RouteName),
        "FILTER_CHAIN_NAME" => plain(Op::FilterChainName),
        "GRPC_STATUS" => grpc_status(argument),
        "GRPC_STATUS_NUMBER" => plain(Op::GrpcStatus(GrpcForm::Number)),
        "REQ" => fields(required()?).map(Op::Request),
        "REQ_WITHOUT_QUERY" => fields(required()?).map(Op::RequestWithoutQuery),
        "RESP" => headers(required()?).map(Op::Response),
        "TRAILER" => headers(required()?).map(Op::Trailer),
        "QUERY_PARAM" => Ok(Op::QueryParameter(required()?.to_owned())),
        "HOSTNAME" => plain(Op::Fixed(hostname())),
        "ENVIRONMENT" => Ok(Op::Fixed(std::env::var(required()?).ok())),
        "" => Err("a name of an operator is missing (a percent sign itself is written %%)".to_owned()),
        _ => Err("not implemented".to_owned()),
    }
}

fn start_time(argument: Option<&str>) -> Result<Op, String> {
    let pattern = match argument.filter(|a| !a.is_empty()) {
        // Absolute's way to write fractions of a second.
        Some(pattern) => pattern
            .replace("%E3S", "%S.%3f")
            .replace("%E6S", "%S.%6f")
            .replace("%f", "%9f"),
        None => DEFAULT_TIME.to_owned(),
    };
    // Tried once here, so that it cannot fail for every request.
    jiff::fmt::strtime::format(&pattern, jiff::Timestamp::UNIX_EPOCH)
        .map_err(|error| format!("time pattern {pattern:?}: {error}"))?;
    Ok(Op::StartTime(pattern))
}

fn grpc_status(argument: Option<&str>) -> Result<Op, String> {
    Ok(Op::GrpcStatus(match argument {
        None | Some("" | "CAMEL_STRING") => GrpcForm::Camel,
        Some("SNAKE_STRING") => GrpcForm::Snake,
        Some("NUMBER") => GrpcForm::Number,
        Some(other) => return Err(format!("{other} is none of CAMEL_STRING, SNAKE_STRING, NUMBER")),
    }))
}

fn fields(argument: &str) -> Result<Vec<Field>, String> {
    two(argument, |name| {
        Ok(match name.to_ascii_lowercase().as_str() {
            ":method" => Field::Method,
            ":path" => Field::Path,
            ":authority" | "host" => Field::Authority,
            ":scheme" => Field::Scheme,
            "x-envoy-original-path" => Field::OriginalPath,
            "x-request-id" => Field::RequestId,
            name => Field::Header(header(name)?),
        })
    })
}

fn headers(argument: &str) -> Result<Vec<HeaderName>, String> {
    two(argument, header)
}

/// `X` or `X?Y`.
fn two<T>(argument: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let names: Vec<&str> = argument.split('?').collect();
    if names.len() > 2 {
        return Err("more than one alternative".to_owned());
    }
    names.into_iter().map(read).collect()
}

fn header(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))
}

fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned())
}
