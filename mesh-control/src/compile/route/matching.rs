//! Conditions of a VirtualService's HTTP rule, as Envoy matches them.

use mesh_api::istio::{HttpMatchRequest, StringMatch};

use super::super::pb::{matcher, regex, route, string_match};

/// Conditions on headers that this build cannot match yet: claims of JSON web tokens.
pub(super) const CLAIMS_PREFIX: &str = "@request.auth.claims";

use matcher::string_matcher::MatchPattern;
use route::header_matcher::HeaderMatchSpecifier;
use route::route_match::PathSpecifier;

/// Every request.
pub(super) fn everything() -> route::RouteMatch {
    route::RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    }
}

/// The conditions on the request itself; port, gateways and source were looked at before.
pub(super) fn request(from: &HttpMatchRequest) -> route::RouteMatch {
    let path = match &from.uri {
        None | Some(StringMatch::Present) => PathSpecifier::Prefix("/".to_owned()),
        Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(prefix.clone()),
        Some(StringMatch::Regex(pattern)) => PathSpecifier::SafeRegex(regex(pattern)),
    };
    let mut headers: Vec<route::HeaderMatcher> = from
        .headers
        .iter()
        .map(|(name, m)| header(name, m))
        .chain(from.without_headers.iter().map(|(name, m)| without(name, m)))
        .collect();
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    let pseudo = [
        (":method", &from.method),
        (":authority", &from.authority),
        (":scheme", &from.scheme),
    ];
    headers.extend(
        pseudo
            .into_iter()
            .filter_map(|(name, m)| Some(header(name, m.as_ref()?))),
    );
    route::RouteMatch {
        path_specifier: Some(path),
        case_sensitive: if from.ignore_uri_case {
            super::super::pb::off()
        } else {
            super::super::pb::on()
        },
        headers,
        query_parameters: from.query_params.iter().map(|(name, m)| query(name, m)).collect(),
        ..Default::default()
    }
}

/// Whether no later rule can ever be reached.
pub(super) fn takes_everything(from: &route::RouteMatch) -> bool {
    let path = match &from.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*" || regex.regex == "*",
        _ => false,
    };
    path && from.headers.is_empty() && from.query_parameters.is_empty()
}

/// `None` asks only that the value is there.
fn pattern(from: &StringMatch) -> Option<matcher::StringMatcher> {
    Some(string_match(match from {
        StringMatch::Present => return None,
        StringMatch::Regex(pattern) if pattern == "*" => return None,
        StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringMatch::Regex(pattern) => MatchPattern::SafeRegex(regex(pattern)),
    }))
}

fn header(name: &str, from: &StringMatch) -> route::HeaderMatcher {
    route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(pattern(from).map_or(
            HeaderMatchSpecifier::PresentMatch(true),
            HeaderMatchSpecifier::StringMatch,
        )),
        ..Default::default()
    }
}

/// A header that must not match; one that is missing counts as empty.
fn without(name: &str, from: &StringMatch) -> route::HeaderMatcher {
    let positive = header(name, from);
    let by_value = matches!(
        positive.header_match_specifier,
        Some(HeaderMatchSpecifier::StringMatch(_))
    );
    route::HeaderMatcher {
        invert_match: true,
        treat_missing_header_as_empty: by_value,
        ..positive
    }
}

fn query(name: &str, from: &StringMatch) -> route::QueryParameterMatcher {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier;
    let empty = matches!(from, StringMatch::Exact(text) if text.is_empty());
    let specifier = match pattern(from) {
        Some(pattern) if !empty => QueryParameterMatchSpecifier::StringMatch(pattern),
        _ => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    route::QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(specifier),
    }
}

/// A string condition on its own (origins of CORS).
pub(super) fn string(from: &StringMatch) -> matcher::StringMatcher {
    pattern(from).unwrap_or_else(|| string_match(MatchPattern::Prefix(String::new())))
}
