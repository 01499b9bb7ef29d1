//! A door for `benches/parts`, which measures steps of the request path by themselves. Nothing else goes through it.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::headers::{self, Seen};
use super::routes::{self, Facts};
use crate::snapshot::{HeaderOps, Route, RouteTable};

/// The route of a GET.
#[must_use]
pub fn find_route<'t>(
    table: &'t RouteTable,
    authority: &str,
    path: &str,
    headers: &HeaderMap,
) -> Option<&'t Arc<Route>> {
    let facts = Facts {
        method: &Method::GET,
        authority,
        scheme: "http",
        path,
        query: None,
        headers,
        connect: false,
    };
    routes::route(routes::virtual_host(table, authority)?, &facts)
}

/// Looks through a message's headers and takes away what belongs to its connection only.
pub fn strip_hop_by_hop(map: &mut HeaderMap) {
    headers::strip_hop_by_hop(map, Seen::among(map), false);
}

/// Additions and removals of a route.
pub fn apply(ops: &HeaderOps, map: &mut HeaderMap) {
    headers::apply(ops, map);
}
