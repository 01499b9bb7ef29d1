//! Route tables: `RouteConfiguration` and what is in it.

use std::borrow::Borrow;
use std::sync::Arc;

use http::StatusCode;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::config::route::v3 as route;
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message as _};

use super::common::{data_source, header_ops, header_value, origin, substitute, to_port};
use super::forward::{forward, retry_policy};
use super::invalid::{At, Invalid, Result, each};
use super::per_route::per_route;
use super::route_match::route_match;
use crate::snapshot::{HeaderOpsPair, Map, Redirect, RequireTls, Route, RouteAction, RouteTable, Target, VirtualHost};

/// Envoy's default for `max_direct_response_body_size_bytes`.
const DIRECT_BODY_LIMIT: u32 = 4096;

/// A table of this outline, whose own `virtual_hosts` are not looked at, and these hosts. They are taken one by one: as
/// messages, thousands of them are several times as large as what is made of them.
pub(super) fn route_table<H: Borrow<route::VirtualHost>>(
    outline: &route::RouteConfiguration,
    hosts: impl ExactSizeIterator<Item = Result<H>>,
) -> Result<RouteTable> {
    let body_limit = outline
        .max_direct_response_body_size_bytes
        .as_ref()
        .map_or(DIRECT_BODY_LIMIT, |v| v.value);
    let mut table = RouteTable {
        name: outline.name.as_str().into(),
        virtual_hosts: Vec::with_capacity(hosts.len()),
        exact: Map::default(),
        suffix: Vec::new(),
        prefix: Vec::new(),
        any: None,
        ignore_port: outline.ignore_port_in_host_matching,
        headers: header_pair(
            &outline.request_headers_to_add,
            &outline.request_headers_to_remove,
            &outline.response_headers_to_add,
            &outline.response_headers_to_remove,
        )?,
    };
    for (index, host) in hosts.enumerate() {
        host.and_then(|host| add_host(&mut table, host.borrow(), body_limit))
            .map_err(|e| e.under(format_args!("virtual_hosts[{index}]")))?;
    }
    table.suffix.sort_by_key(|(s, _)| std::cmp::Reverse(s.len()));
    table.prefix.sort_by_key(|(s, _)| std::cmp::Reverse(s.len()));
    Ok(table)
}

fn add_host(table: &mut RouteTable, host: &route::VirtualHost, body_limit: u32) -> Result<()> {
    let index = table.virtual_hosts.len();
    table.virtual_hosts.push(Arc::new(virtual_host(host, body_limit)?));
    if host.domains.is_empty() {
        return Err(Invalid::new("a domain is required").under("domains"));
    }
    for (i, domain) in host.domains.iter().enumerate() {
        add_domain(table, domain, index).map_err(|e| e.under(format_args!("domains[{i}]")))?;
    }
    Ok(())
}

/// Takes an encoded table apart: the message without its virtual hosts, and these, still encoded.
pub(super) fn split_hosts(bytes: &[u8]) -> Result<(route::RouteConfiguration, Vec<&[u8]>)> {
    const VIRTUAL_HOSTS: u32 = 2;
    let malformed = |e: DecodeError| Invalid::new(format!("malformed message: {e}"));
    let (mut outline, mut hosts) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let field = rest;
        let (tag, wire_type) = encoding::decode_key(&mut rest).map_err(malformed)?;
        let value = rest;
        encoding::skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(malformed)?;
        if tag == VIRTUAL_HOSTS && wire_type == WireType::LengthDelimited {
            let mut host = &value[..value.len() - rest.len()];
            encoding::decode_varint(&mut host).map_err(malformed)?;
            hosts.push(host);
        } else {
            outline.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    let outline = route::RouteConfiguration::decode(outline.as_slice()).map_err(malformed)?;
    Ok((outline, hosts))
}

fn add_domain(table: &mut RouteTable, domain: &str, index: usize) -> Result<()> {
    let domain = domain.to_lowercase();
    let taken = if domain == "*" {
        table.any.replace(index).is_some()
    } else if let Some(suffix) = domain.strip_prefix('*') {
        add_wildcard(&mut table.suffix, suffix, index)
    } else if let Some(prefix) = domain.strip_suffix('*') {
        add_wildcard(&mut table.prefix, prefix, index)
    } else if domain.is_empty() {
        return Err(Invalid::new("a domain must not be empty"));
    } else {
        table.exact.insert(domain.clone(), index).is_some()
    };
    if taken {
        return Err(Invalid::new(format!(
            "{domain:?} occurs twice; a domain belongs to one virtual host"
        )));
    }
    Ok(())
}

fn add_wildcard(all: &mut Vec<(String, usize)>, text: &str, index: usize) -> bool {
    let taken = all.iter().any(|(t, _)| t == text);
    all.push((text.to_owned(), index));
    taken
}

fn virtual_host(value: &route::VirtualHost, body_limit: u32) -> Result<VirtualHost> {
    use route::virtual_host::TlsRequirementType;
    let require_tls = match TlsRequirementType::try_from(value.require_tls) {
        Ok(TlsRequirementType::None) => RequireTls::None,
        Ok(TlsRequirementType::ExternalOnly) => RequireTls::ExternalOnly,
        Ok(TlsRequirementType::All) => RequireTls::All,
        Err(_) => return Err(Invalid::not_implemented("require_tls")),
    };
    let retry = value
        .retry_policy
        .as_ref()
        .map(retry_policy)
        .transpose()
        .at("retry_policy")?;
    Ok(VirtualHost {
        name: value.name.as_str().into(),
        routes: each(&value.routes, "routes", |r| one_route(r, body_limit).map(Arc::new))?,
        require_tls,
        headers: header_pair(
            &value.request_headers_to_add,
            &value.request_headers_to_remove,
            &value.response_headers_to_add,
            &value.response_headers_to_remove,
        )?,
        include_attempt_count: value.include_request_attempt_count,
        retry: retry.map(Arc::new),
        hedge_on_per_try_timeout: value.hedge_policy.as_ref().is_some_and(|h| h.hedge_on_per_try_timeout),
        origin: origin(value.metadata.as_ref()),
    })
}

fn one_route(value: &route::Route, body_limit: u32) -> Result<Route> {
    use route::route::Action;
    let matches = value
        .r#match
        .as_ref()
        .ok_or_else(|| Invalid::new("a match is required").under("match"))?;
    let action = match &value.action {
        Some(Action::Route(action)) => RouteAction::Forward(Arc::new(forward(action).at("route")?)),
        Some(Action::Redirect(action)) => RouteAction::Redirect(redirect(action).at("redirect")?),
        Some(Action::DirectResponse(action)) => direct(action, body_limit).at("direct_response")?,
        Some(Action::FilterAction(_)) => return Err(Invalid::not_implemented("filter_action")),
        Some(Action::NonForwardingAction(_)) => return Err(Invalid::not_implemented("non_forwarding_action")),
        None => return Err(Invalid::new("one of route, redirect or direct_response is required")),
    };
    let filters = per_route(&value.typed_per_filter_config)?;
    let headers = header_pair(
        &value.request_headers_to_add,
        &value.request_headers_to_remove,
        &value.response_headers_to_add,
        &value.response_headers_to_remove,
    )?;
    let destinations = match &action {
        RouteAction::Forward(forward) => match &forward.target {
            Target::Weighted { clusters, .. } => clusters.as_slice(),
            _ => &[],
        },
        _ => &[],
    };
    Ok(Route {
        has_operators: headers.has_operators() || destinations.iter().any(|d| d.headers.has_operators()),
        name: value.name.as_str().into(),
        matches: route_match(matches).at("match")?,
        action,
        headers,
        stat_prefix: non_empty(&value.stat_prefix).map(Into::into),
        operation: value
            .decorator
            .as_ref()
            .filter(|d| !d.operation.is_empty())
            .map(|d| header_value(&d.operation))
            .transpose()
            .at("decorator.operation")?,
        fault: filters.fault,
        cors: filters.cors,
        local_rate_limit: filters.local_rate_limit,
        header_mutation: filters.header_mutation,
        origin: origin(value.metadata.as_ref()),
    })
}

pub(super) fn header_pair(
    request_add: &[core::HeaderValueOption],
    request_remove: &[String],
    response_add: &[core::HeaderValueOption],
    response_remove: &[String],
) -> Result<HeaderOpsPair> {
    Ok(HeaderOpsPair {
        request: header_ops(
            request_add,
            request_remove,
            "request_headers_to_add",
            "request_headers_to_remove",
        )?,
        response: header_ops(
            response_add,
            response_remove,
            "response_headers_to_add",
            "response_headers_to_remove",
        )?,
    })
}

fn redirect(value: &route::RedirectAction) -> Result<Redirect> {
    use route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let mut out = Redirect {
        host: non_empty(&value.host_redirect),
        port: match value.port_redirect {
            0 => None,
            port => Some(to_port(port).at("port_redirect")?),
        },
        strip_query: value.strip_query,
        code: match RedirectResponseCode::try_from(value.response_code) {
            Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
            Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
            Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
            Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
            Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
            Err(_) => return Err(Invalid::not_implemented("response_code")),
        },
        ..Redirect::default()
    };
    match &value.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => out.scheme = Some("https".to_owned()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => out.scheme = non_empty(scheme),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => {}
    }
    match &value.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(path)) => out.path = non_empty(path),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => out.prefix_rewrite = Some(prefix.clone()),
        Some(PathRewriteSpecifier::RegexRewrite(r)) => out.regex_rewrite = Some(substitute(r).at("regex_rewrite")?),
        Some(PathRewriteSpecifier::PathRewrite(_)) => return Err(Invalid::not_implemented("path_rewrite")),
        None => {}
    }
    Ok(out)
}

fn direct(value: &route::DirectResponseAction, limit: u32) -> Result<RouteAction> {
    let body = match &value.body {
        None => Vec::new(),
        Some(source) => data_source(source).at("body")?,
    };
    if body.len() > limit as usize {
        return Err(Invalid::new(format!(
            "{} bytes are more than max_direct_response_body_size_bytes ({limit})",
            body.len()
        ))
        .under("body"));
    }
    Ok(RouteAction::Direct {
        status: status(value.status).at("status")?,
        body: body.into(),
    })
}

pub(super) fn status(code: u32) -> Result<StatusCode> {
    u16::try_from(code)
        .ok()
        .filter(|c| (200..600).contains(c))
        .and_then(|c| StatusCode::from_u16(c).ok())
        .ok_or_else(|| Invalid::new(format!("{code} is no status from 200 to 599")))
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
