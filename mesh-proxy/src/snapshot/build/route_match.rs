//! When a route is taken.

use std::sync::Arc;

use mesh_api::envoy::pb::envoy::config::route::v3 as route;

use super::common::{boolean, fraction, full_regex, header_name, string_match};
use super::invalid::{At, Invalid, Result, each};
use crate::snapshot::{
    HeaderKey, HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch, StringPattern, ValueMatch,
};

pub(super) fn route_match(value: &route::RouteMatch) -> Result<RouteMatch> {
    use route::route_match::PathSpecifier;
    let case_sensitive = boolean(value.case_sensitive.as_ref(), true);
    // Compared with the path folded the same way.
    let fold = |text: &str| {
        if case_sensitive {
            text.to_owned()
        } else {
            text.to_lowercase()
        }
    };
    let path = match &value.path_specifier {
        Some(PathSpecifier::Prefix(p)) => PathMatch::Prefix(fold(p)),
        Some(PathSpecifier::Path(p)) => PathMatch::Exact(fold(p)),
        Some(PathSpecifier::SafeRegex(r)) => PathMatch::Regex(full_regex(r).at("safe_regex")?),
        Some(PathSpecifier::PathSeparatedPrefix(p)) => {
            separated_prefix(p).map(|p| PathMatch::SeparatedPrefix(fold(p)))?
        }
        Some(PathSpecifier::ConnectMatcher(_)) => PathMatch::Connect,
        Some(PathSpecifier::PathMatchPolicy(_)) => return Err(Invalid::not_implemented("path_match_policy")),
        None => {
            return Err(Invalid::new(
                "one of prefix, path, safe_regex, path_separated_prefix or connect_matcher is required",
            ));
        }
    };
    let share = match &value.runtime_fraction {
        None => None,
        Some(f) => {
            let default = f
                .default_value
                .as_ref()
                .ok_or_else(|| Invalid::new("a value is required").under("runtime_fraction.default_value"))?;
            Some(fraction(default).at("runtime_fraction.default_value")?)
        }
    };
    Ok(RouteMatch {
        path,
        case_sensitive,
        headers: each(&value.headers, "headers", header_match)?,
        query: each(&value.query_parameters, "query_parameters", query_match)?,
        fraction: share,
        grpc: value.grpc.is_some(),
    })
}

/// Envoy's rule for these prefixes: no query, no fragment, no slash at the end.
fn separated_prefix(prefix: &str) -> Result<&str> {
    if prefix.is_empty() || prefix.ends_with('/') || prefix.contains(['?', '#']) {
        return Err(
            Invalid::new(format!("{prefix:?} must not be empty, end in / or hold ? or #"))
                .under("path_separated_prefix"),
        );
    }
    Ok(prefix)
}

pub(super) fn header_match(value: &route::HeaderMatcher) -> Result<HeaderMatch> {
    use route::header_matcher::HeaderMatchSpecifier;
    let name = match value.name.as_str() {
        ":method" => HeaderKey::Method,
        ":authority" | "host" => HeaderKey::Authority,
        ":path" => HeaderKey::Path,
        ":scheme" => HeaderKey::Scheme,
        other => HeaderKey::Name(header_name(other).at("name")?),
    };
    let literal = |pattern| {
        ValueMatch::String(StringMatch {
            pattern,
            ignore_case: false,
        })
    };
    #[allow(deprecated)]
    let matcher = match &value.header_match_specifier {
        None => ValueMatch::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(present)) => ValueMatch::Present(*present),
        Some(HeaderMatchSpecifier::StringMatch(m)) => ValueMatch::String(string_match(m).at("string_match")?),
        Some(HeaderMatchSpecifier::RangeMatch(range)) => ValueMatch::Range(range.start, range.end),
        Some(HeaderMatchSpecifier::ExactMatch(text)) => literal(StringPattern::Exact(text.clone())),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => literal(StringPattern::Prefix(text.clone())),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => literal(StringPattern::Suffix(text.clone())),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => literal(StringPattern::Contains(text.clone())),
        Some(HeaderMatchSpecifier::SafeRegexMatch(r)) => {
            literal(StringPattern::Regex(full_regex(r).at("safe_regex_match")?))
        }
    };
    Ok(HeaderMatch {
        name,
        matcher,
        invert: value.invert_match,
        missing_is_empty: value.treat_missing_header_as_empty,
    })
}

pub(super) fn shared_header_match(value: &route::HeaderMatcher) -> Result<Arc<HeaderMatch>> {
    header_match(value).map(Arc::new)
}

fn query_match(value: &route::QueryParameterMatcher) -> Result<QueryMatch> {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier;
    let matcher = match &value.query_parameter_match_specifier {
        None => ValueMatch::Present(true),
        Some(QueryParameterMatchSpecifier::PresentMatch(present)) => ValueMatch::Present(*present),
        Some(QueryParameterMatchSpecifier::StringMatch(m)) => ValueMatch::String(string_match(m).at("string_match")?),
    };
    if value.name.is_empty() {
        return Err(Invalid::new("a name is required").under("name"));
    }
    Ok(QueryMatch {
        name: value.name.clone(),
        matcher,
    })
}
