//! Header operations whose values may have operators (`%REQ(x)%`), and the header mutation filter.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};

use super::accept::Inbound;
use super::headers::{self, REQUEST_ID};
use super::stream::Stream;
use crate::snapshot::{HeaderAdd, HeaderMutation, HeaderOps, HttpFilter, Route, RouteTable, VirtualHost};

/// Operations on the headers of a request.
pub(super) fn apply_to_request(ops: &HeaderOps, headers: &mut HeaderMap, stream: &Stream) {
    apply(ops, headers, stream, true);
}

/// Operations on the headers of a response.
pub(super) fn apply_to_response(ops: &HeaderOps, headers: &mut HeaderMap, stream: &Stream) {
    apply(ops, headers, stream, false);
}

fn apply(ops: &HeaderOps, headers: &mut HeaderMap, stream: &Stream, request: bool) {
    if !ops.has_operators {
        headers::apply(ops, headers);
        return;
    }
    for add in &ops.add {
        if let Some(value) = value(add, headers, stream, request) {
            headers::add(add, value, headers);
        }
    }
    for name in &ops.remove {
        headers.remove(name);
    }
}

/// `None` for what comes out empty: as in Envoy, there is no such header then.
fn value(add: &HeaderAdd, headers: &HeaderMap, stream: &Stream, request: bool) -> Option<HeaderValue> {
    let Some(format) = &add.operators else {
        return Some(add.value.clone());
    };
    let (of_request, of_response) = if request {
        (Some(headers), None)
    } else {
        (None, Some(headers))
    };
    let text = stream.note(|record| format.header_value(record, &stream.conn.info, of_request, of_response));
    if text.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

/// Notes what operators may ask for, where the route has some: logs alone need less.
pub(super) fn remember(stream: &Stream, inbound: &Inbound, table: &RouteTable, host: &VirtualHost, route: &Route) {
    if !(route.has_operators || host.headers.has_operators() || table.headers.has_operators()) {
        return;
    }
    stream.note(|r| {
        if !stream.logged {
            r.uri = http::Uri::from(inbound.path.clone());
            r.start_time = Some(SystemTime::now());
            r.request_id = inbound.headers.get(&REQUEST_ID).cloned();
        }
        if r.request_headers.is_none() {
            r.request_headers = Some(Box::new(inbound.headers.clone()));
        }
    });
}

/// What the filter says for all routes, then what the route says; nothing where there is no filter.
pub(super) fn mutations<'a>(filters: &'a [HttpFilter], route: &'a Route) -> impl Iterator<Item = &'a HeaderMutation> {
    filters
        .iter()
        .filter_map(|filter| match filter {
            HttpFilter::HeaderMutation(all) => Some(all),
            _ => None,
        })
        .flat_map(move |all| [Some(&**all), route.header_mutation.as_deref()])
        .flatten()
}
