//! Checks on a request, whichever version of HTTP it came by; afterwards it has one form.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;

use super::codec::MAX_HEADERS;
use super::grpc;
use super::headers::Seen;
use super::path::{Normalized, normalize};
use super::reply::Local;
use super::routes::{Facts, without_port};
use super::stream::Stream;
use super::upstream_request::Upgrade;
use crate::snapshot::StripPort;
use crate::telemetry::{ResponseFlags, request};

/// A request after the checks, its parts apart.
pub(super) struct Inbound {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) scheme: &'static str,
    /// With `host`, also when it came by HTTP/2.
    pub(super) headers: HeaderMap,
    /// Which of the headers that matter here it came with.
    pub(super) seen: Seen,
    pub(super) extensions: http::Extensions,
    pub(super) version: Version,
    pub(super) body: Incoming,
    pub(super) upgrade: Upgrade,
    pub(super) on_upgrade: Option<OnUpgrade>,
    pub(super) grpc: bool,
    /// CONNECT without a path.
    pub(super) connect: bool,
}

impl Inbound {
    /// Host and port that the request is for; empty when it says none.
    pub(super) fn authority(&self) -> &str {
        self.headers
            .get(header::HOST)
            .and_then(|h| std::str::from_utf8(h.as_bytes()).ok())
            .unwrap_or_default()
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            method: &self.method,
            authority: self.authority(),
            scheme: self.scheme,
            path: self.path.path(),
            query: self.path.query(),
            headers: &self.headers,
            connect: self.connect,
        }
    }
}

/// Checks a request and brings it into one form, whichever version of HTTP it came by.
pub(super) fn accept(stream: &Stream, request: Request<Incoming>) -> Result<Inbound, Box<Local>> {
    let manager = &stream.manager;
    let (mut parts, body) = request.into_parts();
    let header_bytes = request::header_size(&parts.headers);
    let version = parts.version;
    let scheme = if stream.conn.info.tls.is_some() {
        "https"
    } else {
        "http"
    };

    if body.is_end_stream() {
        stream.request_without_body();
    }
    if version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
        // HTTP/1's codec counts by itself.
        if parts.headers.len() > MAX_HEADERS {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
            return Err(Box::new(Local::new(status, "", flags, "http2.too_many_headers")));
        }
    }
    authority(&mut parts)?;
    let seen = Seen::among(&parts.headers);
    let protocol = parts.extensions.remove::<hyper::ext::Protocol>();
    let connect = parts.method == Method::CONNECT && protocol.is_none();
    if !connect {
        strip_port(
            &mut parts.headers,
            manager.strip_port,
            stream.conn.info.destination.port(),
        );
    }
    let path = match parts.uri.path_and_query() {
        Some(path) if !connect => path.clone(),
        _ => PathAndQuery::from_static("/"),
    };
    let (upgrade, method) = match protocol {
        // RFC 8441: an upgrade by HTTP/2.
        Some(protocol) => (Upgrade::Token(protocol.as_str().to_ascii_lowercase()), Method::GET),
        None if connect => (Upgrade::Connect, parts.method),
        None if seen.has(Seen::UPGRADE) => (wanted_upgrade(version, &parts.headers), parts.method),
        None => (Upgrade::No, parts.method),
    };
    let on_upgrade = match upgrade {
        Upgrade::No => None,
        Upgrade::Token(_) | Upgrade::Connect => parts.extensions.remove::<OnUpgrade>(),
    };
    let grpc = seen.has(Seen::CONTENT_TYPE) && grpc::is_grpc(&parts.headers);
    stream.note(|r| {
        r.method = method.clone();
        if stream.logged {
            r.uri = http::Uri::from(path.clone());
        }
        r.scheme = scheme;
        r.authority = parts.headers.get(header::HOST).cloned();
        r.grpc = grpc;
        r.request_header_bytes = header_bytes;
        if stream.keeps_headers {
            r.request_headers = Some(Box::new(parts.headers.clone()));
        }
    });
    let mut inbound = Inbound {
        method,
        path,
        scheme,
        headers: parts.headers,
        seen,
        extensions: parts.extensions,
        version,
        body,
        upgrade,
        on_upgrade,
        grpc,
        connect,
    };
    if inbound.path.path() != "*" && normalized(&mut inbound, manager)? && stream.logged {
        stream.note(|r| r.uri = http::Uri::from(inbound.path.clone()));
    }
    Ok(inbound)
}

/// Puts the authority into one `host` header, and refuses requests that name several.
fn authority(parts: &mut http::request::Parts) -> Result<(), Box<Local>> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Box::new(Local::bad_request("http1.duplicate_host")));
    }
    if let Some(authority) = parts.uri.authority() {
        // The target names it; a `host` beside it is not believed (RFC 9112, 3.2.2; HTTP/2 has `:authority`).
        let same = host.is_some_and(|h| h.as_bytes() == authority.as_str().as_bytes());
        if !same {
            let value = HeaderValue::from_str(authority.as_str())
                .ok()
                .filter(|v| v.as_bytes().iter().all(|b| may_be_in_authority(*b)))
                .ok_or_else(|| Box::new(Local::bad_request("invalid_authority")))?;
            parts.headers.insert(header::HOST, value);
            return Ok(());
        }
    }
    match host {
        Some(host) if !host.as_bytes().iter().all(|b| may_be_in_authority(*b)) => {
            Err(Box::new(Local::bad_request("invalid_authority")))
        }
        None if parts.version != Version::HTTP_10 => Err(Box::new(Local {
            flags: ResponseFlags::NONE,
            ..Local::bad_request("missing_host_header")
        })),
        _ => Ok(()),
    }
}

/// Bytes of a host with its port (RFC 3986, 3.2). Not `@`: who names a user there wants to be read in two ways.
fn may_be_in_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// Takes the port off the host where the manager says so; not off a CONNECT's, whose very target it is.
fn strip_port(headers: &mut HeaderMap, strip: StripPort, own: u16) {
    if strip == StripPort::No {
        return;
    }
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else {
        return;
    };
    let name = without_port(host);
    let port: Option<u16> = host.get(name.len() + 1..).and_then(|port| port.parse().ok());
    let stripped = match port {
        Some(port) if strip == StripPort::Any || port == own => HeaderValue::from_str(name),
        _ => return,
    };
    if let Ok(stripped) = stripped {
        headers.insert(header::HOST, stripped);
    }
}

/// HTTP/2 may split `cookie` for the sake of its compression; what is not HTTP/2 needs it in one piece (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() < 2 {
        return;
    }
    // Pieces of header values with a separator make a header value.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The token of an HTTP/1.1 upgrade.
fn wanted_upgrade(version: Version, headers: &HeaderMap) -> Upgrade {
    if version != Version::HTTP_11 {
        return Upgrade::No;
    }
    let Some(token) = headers.get(header::UPGRADE).and_then(|v| v.to_str().ok()) else {
        return Upgrade::No;
    };
    let asked = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|t| t.trim().eq_ignore_ascii_case("upgrade"));
    if asked {
        Upgrade::Token(token.trim().to_ascii_lowercase())
    } else {
        Upgrade::No
    }
}

/// Brings the path into the manager's form; true when that changed it.
fn normalized(inbound: &mut Inbound, manager: &crate::snapshot::HttpConnectionManager) -> Result<bool, Box<Local>> {
    let changed = match normalize(inbound.path.path(), manager) {
        Normalized::Path(std::borrow::Cow::Borrowed(_)) => return Ok(false),
        Normalized::Path(std::borrow::Cow::Owned(path)) => path,
        Normalized::Reject => return Err(Box::new(Local::bad_request("path_normalization_failed"))),
        Normalized::Redirect(path) => {
            let mut local = Local::new(
                StatusCode::TEMPORARY_REDIRECT,
                "",
                ResponseFlags::NONE,
                "path_normalization_failed",
            );
            if let Ok(location) = HeaderValue::try_from(with_query(path, inbound.path.query())) {
                local.headers.insert(header::LOCATION, location);
            }
            return Err(Box::new(local));
        }
    };
    inbound.path = PathAndQuery::try_from(with_query(changed, inbound.path.query()))
        .map_err(|_| Box::new(Local::bad_request("path_normalization_failed")))?;
    Ok(true)
}

/// A path with the query that belongs to it.
pub(super) fn with_query(mut path: String, query: Option<&str>) -> String {
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path
}
