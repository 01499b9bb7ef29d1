//! The way of one request: checks, headers, route, filters, action.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;

use super::body::ResponseBody;
use super::headers::{self, DECORATOR, ORIGINAL_PATH, REQUEST_ID};
use super::path::{Normalized, normalize};
use super::reply::Local;
use super::router::{self, Routed};
use super::routes::{self, Facts};
use super::stream::Stream;
use super::upstream_request::Upgrade;
use super::{Downstream, cors, grpc, redirect};
use crate::snapshot::{
    Direction, Fault, FaultAbort, HttpFilter, RequireTls, Route, RouteAction, RouteSource, RouteTable, ServerHeader,
};
use crate::telemetry::{ResponseFlags, peer, request};
use crate::upstream::chance;

/// A request after the checks, its parts apart.
pub(super) struct Inbound {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) scheme: &'static str,
    /// With `host`, also when it came by HTTP/2.
    pub(super) headers: HeaderMap,
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

    fn facts(&self) -> Facts<'_> {
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

/// Answers one request. What goes wrong becomes a response.
pub(super) async fn handle(
    conn: Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let stream = Stream::start(&conn, request.version());
    let http10 = request.version() == Version::HTTP_10;
    let mut traits = Traits::default();
    let mut response = match accept(&stream, request) {
        Ok(inbound) => {
            traits.grpc = inbound.grpc;
            serve(&stream, inbound, &mut traits).await
        }
        Err(local) => (*local).into_response(&stream, false),
    };
    finish_headers(&stream, &mut response, &traits, http10);
    stream.response_started(response.status(), response.headers());
    Ok(response)
}

/// What of a request matters for the headers of its response.
#[derive(Default)]
struct Traits {
    grpc: bool,
    /// It asked for an upgrade that is let through.
    upgrading: bool,
    /// The caller told who it is, and learns who we are.
    exchanged: bool,
    peers: bool,
    /// `x-envoy-decorator-operation` towards a caller that did not name the operation itself.
    operation: Option<Arc<str>>,
}

/// Checks a request and brings it into one form, whichever version of HTTP it came by.
fn accept(stream: &Stream, request: Request<Incoming>) -> Result<Inbound, Box<Local>> {
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
        stream.request_finished();
    }
    authority(&mut parts)?;
    let protocol = parts.extensions.remove::<hyper::ext::Protocol>();
    let connect = parts.method == Method::CONNECT && protocol.is_none();
    let path = match parts.uri.path_and_query() {
        Some(path) if !connect => path.clone(),
        _ => PathAndQuery::from_static("/"),
    };
    let (upgrade, method) = match protocol {
        // RFC 8441: an upgrade by HTTP/2.
        Some(protocol) => (Upgrade::Token(protocol.as_str().to_ascii_lowercase()), Method::GET),
        None if connect => (Upgrade::Connect, parts.method),
        None => (wanted_upgrade(version, &parts.headers), parts.method),
    };
    let on_upgrade = match upgrade {
        Upgrade::No => None,
        Upgrade::Token(_) | Upgrade::Connect => parts.extensions.remove::<OnUpgrade>(),
    };
    let grpc = grpc::is_grpc(&parts.headers);
    stream.note(|r| {
        r.method = method.clone();
        r.uri = http::Uri::from(path.clone());
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
        extensions: parts.extensions,
        version,
        body,
        upgrade,
        on_upgrade,
        grpc,
        connect,
    };
    if inbound.path.path() != "*" && normalized(&mut inbound, manager)? {
        stream.note(|r| r.uri = http::Uri::from(inbound.path.clone()));
    }
    Ok(inbound)
}

/// Puts the authority into one `host` header, and refuses requests that name several.
fn authority(parts: &mut http::request::Parts) -> Result<(), Box<Local>> {
    if parts.headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(Box::new(Local::bad_request("http1.duplicate_host")));
    }
    if let Some(authority) = parts.uri.authority() {
        // The target names it; a `host` beside it is not believed (RFC 9112, 3.2.2; HTTP/2 has `:authority`).
        let same = parts
            .headers
            .get(header::HOST)
            .is_some_and(|h| h.as_bytes() == authority.as_str().as_bytes());
        if !same {
            let value = HeaderValue::from_str(authority.as_str())
                .map_err(|_| Box::new(Local::bad_request("invalid_authority")))?;
            parts.headers.insert(header::HOST, value);
        }
    }
    match parts.headers.get(header::HOST) {
        Some(host) if std::str::from_utf8(host.as_bytes()).is_err() => {
            Err(Box::new(Local::bad_request("invalid_authority")))
        }
        None if parts.version != Version::HTTP_10 => Err(Box::new(Local {
            flags: ResponseFlags::NONE,
            ..Local::bad_request("missing_host_header")
        })),
        _ => Ok(()),
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

async fn serve(stream: &Rc<Stream>, mut inbound: Inbound, traits: &mut Traits) -> Response<ResponseBody> {
    let manager = &stream.manager;
    let allowed = upgrade_allowed(&manager.upgrades, &inbound.upgrade);
    if !allowed && inbound.upgrade != Upgrade::Connect {
        // As if nothing had been asked: the application may still serve it as it is.
        inbound.upgrade = Upgrade::No;
        inbound.on_upgrade = None;
    }
    traits.upgrading = inbound.upgrade != Upgrade::No;
    headers::strip_hop_by_hop(&mut inbound.headers, matches!(inbound.upgrade, Upgrade::Token(_)));
    headers::mutate_request(&mut inbound.headers, manager, &stream.conn);
    inbound.headers.remove(header::EXPECT);
    stream.note(|r| r.request_id = inbound.headers.get(&REQUEST_ID).cloned());
    let named = inbound.headers.contains_key(&DECORATOR);
    if stream.direction() == Direction::Inbound && named {
        inbound.headers.remove(&DECORATOR);
    }
    let grpc = inbound.grpc;

    for filter in &manager.filters {
        match filter {
            HttpFilter::PeerMetadata => {
                traits.peers = true;
                if stream.direction() == Direction::Inbound {
                    let conn = &stream.conn;
                    let trusted = conn.info.tls.as_ref().is_some_and(|t| t.mutual);
                    let found = peer::inbound_request(&mut inbound.headers, trusted, &conn.worker.telemetry);
                    traits.exchanged = found.is_some();
                    stream.note(|r| r.peer = found);
                }
            }
            HttpFilter::Headers(ops) => headers::apply(ops, &mut inbound.headers),
            // These act by route, at the end of the request, or on the upstream's connection.
            HttpFilter::Cors
            | HttpFilter::Fault
            | HttpFilter::IstioStats
            | HttpFilter::GrpcStats
            | HttpFilter::Alpn => {}
        }
    }

    let snapshot = &stream.snapshot;
    let table: Option<&Arc<RouteTable>> = match &manager.routes {
        RouteSource::Inline(table) => Some(table),
        RouteSource::Rds(name) => snapshot.routes.get(name),
    };
    let found = table.and_then(|table| {
        let facts = inbound.facts();
        let host = routes::virtual_host(table, facts.authority, manager.strip_host_port)?;
        // Nobody is taken for internal, so that `EXTERNAL_ONLY` is everybody.
        if host.require_tls != RequireTls::None && facts.scheme == "http" {
            return Some(Err(redirect::to_https(&facts)));
        }
        Some(Ok((table, host, routes::route(host, &facts)?)))
    });
    let (table, host, route) = match found {
        Some(Ok(found)) => found,
        Some(Err(redirect)) => return redirect.into_response(stream, grpc),
        None => {
            stream.stats.no_route.inc();
            let local = Local::new(
                StatusCode::NOT_FOUND,
                "",
                ResponseFlags::NO_ROUTE_FOUND,
                "route_not_found",
            );
            return local.into_response(stream, grpc);
        }
    };
    stream.note(|r| r.route = Some(route.clone()));
    if stream.direction() == Direction::Inbound && !named {
        traits.operation.clone_from(&route.operation);
    }

    let mut origin = None;
    if let Some(policy) = &route.cors {
        if let Some(local) = cors::preflight(policy, &inbound.method, &inbound.headers) {
            return local.into_response(stream, grpc);
        }
        origin = cors::allowed_origin(policy, &inbound.headers);
    }
    if let Some(fault) = &route.fault
        && let Some(local) = inject(stream, fault).await
    {
        return local.into_response(stream, grpc);
    }

    let mut response = match &route.action {
        RouteAction::Forward(forward) => {
            let on = upgrade_on_route(&forward.upgrades, &inbound.upgrade).unwrap_or(allowed);
            if inbound.upgrade != Upgrade::No && !on {
                let local = Local::new(StatusCode::FORBIDDEN, "", ResponseFlags::NONE, "upgrade_failed");
                return local.into_response(stream, grpc);
            }
            let routed = Routed {
                table,
                host,
                route,
                forward,
            };
            router::forward(stream, inbound, routed).await
        }
        RouteAction::Redirect(to) => {
            stream.stats.rq_redirect.inc();
            let local = redirect::reply(to, &route.matches.path, &inbound.facts());
            let mut response = local.into_response(stream, false);
            respond_headers(table, host, route, &mut response);
            response
        }
        RouteAction::Direct { status, body } => {
            stream.stats.rq_direct_response.inc();
            direct(stream, table, host, route, *status, body)
        }
    };
    if let (Some(policy), Some(origin)) = (&route.cors, origin) {
        cors::response(policy, origin, response.headers_mut());
    }
    response
}

fn direct(
    stream: &Rc<Stream>,
    table: &RouteTable,
    host: &crate::snapshot::VirtualHost,
    route: &Route,
    status: StatusCode,
    body: &bytes::Bytes,
) -> Response<ResponseBody> {
    stream.note(|r| r.details = "direct_response".into());
    let head = stream.note(|r| r.method == Method::HEAD);
    let bytes = if head { bytes::Bytes::new() } else { body.clone() };
    let mut response = Response::new(ResponseBody::whole(bytes, stream));
    *response.status_mut() = status;
    if !body.is_empty() {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    respond_headers(table, host, route, &mut response);
    response
}

fn respond_headers(
    table: &RouteTable,
    host: &crate::snapshot::VirtualHost,
    route: &Route,
    response: &mut Response<ResponseBody>,
) {
    for ops in [&route.headers, &host.headers, &table.headers] {
        headers::apply(&ops.response, response.headers_mut());
    }
}

fn upgrade_allowed(upgrades: &[String], upgrade: &Upgrade) -> bool {
    match upgrade {
        Upgrade::No => true,
        Upgrade::Token(token) => upgrades.iter().any(|u| u == token),
        Upgrade::Connect => upgrades.iter().any(|u| u == "connect"),
    }
}

fn upgrade_on_route(upgrades: &[(String, bool)], upgrade: &Upgrade) -> Option<bool> {
    let token = match upgrade {
        Upgrade::No => return None,
        Upgrade::Token(token) => token.as_str(),
        Upgrade::Connect => "connect",
    };
    upgrades.iter().find(|(t, _)| t == token).map(|(_, on)| *on)
}

/// Delays, and the response of an abort.
async fn inject(stream: &Rc<Stream>, fault: &Fault) -> Option<Local> {
    if let Some((delay, share)) = &fault.delay
        && chance(*share)
    {
        stream.note(|r| r.flags.set(ResponseFlags::DELAY_INJECTED));
        tokio::time::sleep(*delay).await;
    }
    let (abort, share) = fault.abort.as_ref()?;
    if !chance(*share) {
        return None;
    }
    let (status, grpc_status) = match abort {
        FaultAbort::Http(status) => (*status, None),
        FaultAbort::Grpc(code) => (StatusCode::OK, u16::try_from(*code).ok()),
    };
    let mut local = Local::new(
        status,
        "fault filter abort",
        ResponseFlags::FAULT_INJECTED,
        "fault_filter_abort",
    );
    local.grpc_status = grpc_status;
    Some(local)
}

/// Headers that every response has, whoever made it.
fn finish_headers(stream: &Rc<Stream>, response: &mut Response<ResponseBody>, traits: &Traits, http10: bool) {
    let conn = &stream.conn;
    let manager = &stream.manager;
    *response.version_mut() = Version::HTTP_11;
    let switching = stream.tunneled.get();
    if traits.upgrading && !switching && !conn.speaks_http2.get() {
        // What the caller has sent in the hope of an upgrade must not be read as its next request.
        conn.close_soon();
    }
    let headers = response.headers_mut();
    match manager.server_header {
        ServerHeader::Overwrite => {
            headers.insert(header::SERVER, manager.server_name.clone());
        }
        ServerHeader::AppendIfAbsent => {
            headers
                .entry(header::SERVER)
                .or_insert_with(|| manager.server_name.clone());
        }
        ServerHeader::PassThrough => {}
    }
    if stream.direction() == Direction::Inbound {
        if traits.peers {
            peer::inbound_response(headers, traits.exchanged, &conn.worker.telemetry);
        }
        if let Some(operation) = &traits.operation
            && let Ok(value) = HeaderValue::from_str(operation)
        {
            headers.insert(DECORATOR.clone(), value);
        }
    } else {
        headers.remove(&DECORATOR);
    }
    if conn.is_closing() && !switching {
        if conn.speaks_http2.get() {
            conn.shut();
        } else {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    } else if http10 && !switching && !headers.contains_key(header::CONTENT_LENGTH) {
        // Without a length the end of the body is the end of the connection.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Sets a header, keeping quiet about text that cannot be one.
pub(super) fn set(headers: &mut HeaderMap, name: &HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name.clone(), value);
    }
}

/// The path as it came, for the application and the log, when a rewrite changes it.
pub(super) fn keep_original_path(stream: &Stream, headers: &mut HeaderMap, path: &PathAndQuery) {
    if let Ok(value) = HeaderValue::from_str(path.as_str()) {
        headers.insert(ORIGINAL_PATH.clone(), value.clone());
        stream.note(|r| r.original_path = Some(value));
    }
}
