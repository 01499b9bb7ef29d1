//! The way of one request: checks, headers, route, filters, action.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use super::accept::{Inbound, accept};
use super::headers::{self, DECORATOR, ORIGINAL_PATH, REQUEST_ID, Seen};
use super::reply::Local;
use super::response_body::ResponseBody;
use super::router::{self, Matched, Routed};
use super::routes;
use super::stream::Stream;
use super::upstream_request::Upgrade;
use super::{Downstream, cors, header_ops, local_rate_limit, redirect};
use crate::snapshot::{
    Direction, Fault, FaultAbort, HttpFilter, RequireTls, Route, RouteAction, RouteSource, RouteTable, ServerHeader,
};
use crate::telemetry::{ResponseFlags, peer};
use crate::upstream::chance;

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
    operation: Option<HeaderValue>,
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
    let seen = inbound.seen;
    headers::strip_hop_by_hop(&mut inbound.headers, seen, matches!(inbound.upgrade, Upgrade::Token(_)));
    headers::mutate_request(&mut inbound.headers, seen, manager, &stream.conn);
    if seen.has(Seen::EXPECT) {
        inbound.headers.remove(header::EXPECT);
    }
    if stream.logged {
        stream.note(|r| r.request_id = inbound.headers.get(&REQUEST_ID).cloned());
    }
    let named = seen.has(Seen::DECORATOR) && inbound.headers.contains_key(&DECORATOR);
    if stream.direction() == Direction::Inbound && named {
        inbound.headers.remove(&DECORATOR);
    }
    let grpc = inbound.grpc;

    let mut limit = None;
    let mut mutates = false;
    for filter in &manager.filters {
        match filter {
            HttpFilter::PeerMetadata => {
                traits.peers = true;
                if stream.direction() == Direction::Inbound && seen.has(Seen::PEER) {
                    let conn = &stream.conn;
                    let trusted = conn.info.tls.as_ref().is_some_and(|t| t.mutual);
                    let found = peer::inbound_request(&mut inbound.headers, trusted, &conn.worker.telemetry);
                    traits.exchanged = found.is_some();
                    stream.note(|r| r.peer = found);
                }
            }
            HttpFilter::LocalRateLimit(all) => limit = Some(all),
            HttpFilter::HeaderMutation(_) => mutates = true,
            // These act by route, by the cluster, at the end of the request, or on the upstream's connection.
            HttpFilter::Cors
            | HttpFilter::Fault
            | HttpFilter::IstioStats
            | HttpFilter::GrpcStats
            | HttpFilter::DynamicForward(_)
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
        let host = routes::virtual_host(table, facts.authority)?;
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

    header_ops::remember(stream, &inbound, table, host, route);
    let matched = Matched { table, host, route };

    let mut response = 'answer: {
        if let Some(limit) = limit
            && let Some(local) = local_rate_limit::refusal(stream, route.local_rate_limit.as_ref().unwrap_or(limit))
        {
            break 'answer router::refused(stream, &inbound, local, &matched);
        }
        if mutates {
            for ops in header_ops::mutations(&manager.filters, route).flat_map(|m| &m.request) {
                header_ops::apply_to_request(ops, &mut inbound.headers, stream);
            }
        }
        let mut origin = None;
        if let Some(policy) = &route.cors {
            origin = cors::allowed_origin(policy, &inbound.headers);
            if origin.is_some() {
                stream.stats.cors_origin_valid.inc();
            } else if inbound.headers.get(header::ORIGIN).is_some_and(|o| !o.is_empty()) {
                stream.stats.cors_origin_invalid.inc();
            }
            if let Some(local) = cors::preflight(policy, &inbound.method, &inbound.headers) {
                // Unlike other filters' answers, this one is without what the route adds.
                if let RouteAction::Forward(forward) = &route.action {
                    router::note_destination(stream, &inbound, forward);
                }
                break 'answer local.into_response(stream, grpc);
            }
        }
        if let Some(fault) = &route.fault {
            if let RouteAction::Forward(forward) = &route.action {
                // For the log of a caller that leaves while it is held up.
                router::note_destination(stream, &inbound, forward);
            }
            if let Some(local) = inject(stream, fault).await {
                break 'answer router::refused(stream, &inbound, local, &matched);
            }
        }

        let mut response = match &route.action {
            RouteAction::Forward(forward) => {
                let on = upgrade_on_route(&forward.upgrades, &inbound.upgrade).unwrap_or(allowed);
                if inbound.upgrade != Upgrade::No && !on {
                    let local = Local::new(StatusCode::FORBIDDEN, "", ResponseFlags::NONE, "upgrade_failed");
                    break 'answer router::refused(stream, &inbound, local, &matched);
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
                let mut response = local.into_response(stream, grpc);
                respond_headers(stream, table, host, route, &mut response);
                response
            }
            RouteAction::Direct { status, body } => {
                stream.stats.rq_direct_response.inc();
                let mut local = Local::new(*status, body.clone(), ResponseFlags::NONE, "direct_response");
                if let Some(location) = redirect::of_direct_response(*status, &inbound.facts()) {
                    local.headers.insert(header::LOCATION, location);
                }
                let mut response = local.into_response(stream, grpc);
                respond_headers(stream, table, host, route, &mut response);
                response
            }
        };
        if let (Some(policy), Some(origin)) = (&route.cors, origin) {
            cors::response(policy, origin, response.headers_mut());
        }
        response
    };
    // Those that filters gave themselves too, as in Envoy.
    if mutates {
        for ops in header_ops::mutations(&manager.filters, route).flat_map(|m| &m.response) {
            header_ops::apply_to_response(ops, response.headers_mut(), stream);
        }
    }
    response
}

fn respond_headers(
    stream: &Stream,
    table: &RouteTable,
    host: &crate::snapshot::VirtualHost,
    route: &Route,
    response: &mut Response<ResponseBody>,
) {
    for ops in [&route.headers, &host.headers, &table.headers] {
        header_ops::apply_to_response(&ops.response, response.headers_mut(), stream);
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
        stream.stats.fault_delays_injected.inc();
        let _active = ActiveFault::new(stream);
        tokio::time::sleep(*delay).await;
    }
    let (abort, share) = fault.abort.as_ref()?;
    if !chance(*share) {
        return None;
    }
    stream.stats.fault_aborts_injected.inc();
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

/// A request that is held up, for `active_faults`.
struct ActiveFault<'s>(&'s Stream);

impl<'s> ActiveFault<'s> {
    fn new(stream: &'s Stream) -> Self {
        stream.stats.fault_active_faults.inc();
        ActiveFault(stream)
    }
}

impl Drop for ActiveFault<'_> {
    fn drop(&mut self) {
        self.0.stats.fault_active_faults.dec();
    }
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
    let seen = Seen::among(headers);
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
            if seen.has(Seen::PEER) {
                peer::strip(headers);
            }
            peer::inbound_response(headers, traits.exchanged, &conn.worker.telemetry);
        }
        if let Some(operation) = &traits.operation {
            headers.insert(DECORATOR.clone(), operation.clone());
        }
    } else if seen.has(Seen::DECORATOR) {
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

/// The path as it came, for the application and the log, when a rewrite changes it.
pub(super) fn keep_original_path(stream: &Stream, headers: &mut HeaderMap, path: &PathAndQuery) {
    if let Ok(value) = HeaderValue::from_str(path.as_str()) {
        headers.insert(ORIGINAL_PATH.clone(), value.clone());
        stream.note(|r| r.original_path = Some(value));
    }
}
