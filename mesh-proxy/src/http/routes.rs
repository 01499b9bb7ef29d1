//! Which route takes a request: virtual host by domain, then the first route that matches.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, Method};

use super::grpc;
use crate::snapshot::{
    HeaderKey, HeaderMatch, PathMatch, QueryMatch, Route, RouteMatch, RouteTable, ValueMatch, VirtualHost,
};
use crate::upstream::chance;

/// What of a request routes look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) method: &'a Method,
    pub(super) authority: &'a str,
    pub(super) scheme: &'a str,
    /// Without query.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    /// A CONNECT without a path.
    pub(super) connect: bool,
}

/// The virtual host of an authority.
pub(super) fn virtual_host<'t>(table: &'t RouteTable, authority: &str) -> Option<&'t Arc<VirtualHost>> {
    let host = if table.ignore_port {
        without_port(authority)
    } else {
        authority
    };
    let lowered = if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    let host = lowered.as_ref();
    let found = table.exact.get(host).copied();
    let found = found.or_else(|| {
        // `*.example.com` needs something before the dot, `example.*` something after it.
        let suffix = |(s, _): &&(String, usize)| host.len() > s.len() && host.ends_with(s.as_str());
        table.suffix.iter().find(suffix).map(|(_, i)| *i)
    });
    let found = found.or_else(|| {
        let prefix = |(p, _): &&(String, usize)| host.len() > p.len() && host.starts_with(p.as_str());
        table.prefix.iter().find(prefix).map(|(_, i)| *i)
    });
    table.virtual_hosts.get(found.or(table.any)?)
}

/// `host:80` → `host`, `[::1]:80` → `[::1]`.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

/// The first route of a host that matches.
pub(super) fn route<'v>(host: &'v VirtualHost, facts: &Facts<'_>) -> Option<&'v Arc<Route>> {
    host.routes.iter().find(|r| matches(&r.matches, facts))
}

fn matches(on: &RouteMatch, facts: &Facts<'_>) -> bool {
    path_matches(on, facts)
        && on.headers.iter().all(|h| header_matches(h, facts))
        && on.query.iter().all(|q| query_matches(q, facts.query))
        && (!on.grpc || grpc::is_grpc(facts.headers))
        && on.fraction.is_none_or(chance)
}

fn path_matches(on: &RouteMatch, facts: &Facts<'_>) -> bool {
    if facts.connect {
        return matches!(on.path, PathMatch::Connect);
    }
    let path = facts.path;
    let starts = |prefix: &str| {
        if on.case_sensitive {
            path.starts_with(prefix)
        } else {
            path.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix))
        }
    };
    match &on.path {
        PathMatch::Prefix(prefix) => starts(prefix),
        PathMatch::Exact(exact) => path.len() == exact.len() && starts(exact),
        PathMatch::SeparatedPrefix(prefix) => {
            starts(prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
        }
        PathMatch::Regex(regex) => regex.is_match(path),
        PathMatch::Connect => *facts.method == Method::CONNECT,
    }
}

fn header_matches(on: &HeaderMatch, facts: &Facts<'_>) -> bool {
    let path_and_query;
    let value = match &on.name {
        HeaderKey::Method => facts.method.as_str(),
        HeaderKey::Authority => facts.authority,
        HeaderKey::Scheme => facts.scheme,
        HeaderKey::Path => match facts.query {
            Some(query) => {
                path_and_query = format!("{}?{query}", facts.path);
                &path_and_query
            }
            None => facts.path,
        },
        HeaderKey::Name(name) => return values_match(on, values(facts.headers, name)),
    };
    values_match(on, std::iter::once(Cow::Borrowed(value)))
}

/// Whether a response has a header. It has none of what a request line says.
pub(super) fn response_header_matches(on: &HeaderMatch, headers: &HeaderMap) -> bool {
    match &on.name {
        HeaderKey::Name(name) => values_match(on, values(headers, name)),
        HeaderKey::Method | HeaderKey::Authority | HeaderKey::Scheme | HeaderKey::Path => {
            values_match(on, std::iter::empty())
        }
    }
}

fn values<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = Cow<'h, str>> {
    let all = headers.get_all(name).into_iter();
    all.map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// Of a header that is given several times, one value that matches is enough.
fn values_match<'h>(on: &HeaderMatch, values: impl Iterator<Item = Cow<'h, str>>) -> bool {
    let matches = |value: &str| match &on.matcher {
        ValueMatch::Present(there) => *there,
        ValueMatch::String(string) => string.matches(value),
        ValueMatch::Range(start, end) => value.trim().parse::<i64>().is_ok_and(|n| (*start..*end).contains(&n)),
    };
    let mut values = values.peekable();
    let matched = if values.peek().is_some() {
        values.any(|value| matches(&value))
    } else if on.missing_is_empty {
        matches("")
    } else {
        // As Envoy: what is not there matches nothing but a demand for its absence, inverted or not.
        return matches!(on.matcher, ValueMatch::Present(there) if there == on.invert);
    };
    matched != on.invert
}

fn query_matches(on: &QueryMatch, query: Option<&str>) -> bool {
    let value = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(name, _)| *name == on.name)
        .map(|(_, value)| value);
    match (&on.matcher, value) {
        (ValueMatch::Present(there), value) => value.is_some() == *there,
        (_, None) => false,
        (ValueMatch::String(string), Some(value)) => string.matches(value),
        (ValueMatch::Range(start, end), Some(value)) => value.parse::<i64>().is_ok_and(|n| (*start..*end).contains(&n)),
    }
}

/// Path (without query) after `prefix_rewrite`.
pub(super) fn rewrite_prefix(on: &PathMatch, path: &str, to: &str) -> String {
    let matched = match on {
        PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => prefix.len(),
        PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Connect => path.len(),
    };
    // The prefix matched, if perhaps in another case, so this is a boundary; were it none, the path stays.
    match path.get(matched..) {
        Some(rest) => format!("{to}{rest}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests;
