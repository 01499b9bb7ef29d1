//! Rules of a VirtualService that stand in another one, its delegate.

use std::collections::{BTreeMap, HashMap};

use mesh_api::istio::{HttpMatchRequest, HttpRoute, Object, ObjectMeta, StringMatch, VirtualService};

use super::host;

/// An HTTP rule as it applies.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What it says; one of a delegate together with the rule that names the delegate.
    pub route: HttpRoute,
    /// The object in which it is written, if that is a delegate.
    pub delegate: Option<ObjectMeta>,
    /// Its path in the object in which it is written, `spec.http[0]`.
    pub field: String,
}

/// Why a delegate's rules, or one of them, do not apply: the field of the object that names it, and a message.
pub type Problem = (String, String);

/// VirtualServices without hosts, by namespace and name.
pub(super) type Delegates<'a> = HashMap<(&'a str, &'a str), &'a Object<VirtualService>>;

/// The HTTP rules of an object, with those of delegates in the places of the rules that name them.
pub(super) fn rules(
    root: &Object<VirtualService>,
    delegates: &Delegates<'_>,
    default_export: &[String],
) -> (Vec<Rule>, Vec<Problem>) {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    for (index, route) in root.spec.http.iter().enumerate() {
        let field = format!("spec.http[{index}]");
        let Some(named) = &route.delegate else {
            rules.push(Rule {
                route: route.clone(),
                delegate: None,
                field,
            });
            continue;
        };
        let own = root.meta.namespace.as_str();
        let namespace = if named.namespace.is_empty() {
            own
        } else {
            &named.namespace
        };
        let mut problem = |message: String| problems.push((format!("{field}.delegate"), message));
        let Some(delegate) = delegates.get(&(namespace, named.name.as_str())) else {
            problem(format!(
                "there is no VirtualService {namespace}/{} without hosts; the rule has no effect. Check name and namespace",
                named.name
            ));
            continue;
        };
        if !host::visible(&delegate.spec.export_to, default_export, namespace, own) {
            problem(format!(
                "VirtualService {namespace}/{} is not exported to namespace {own}; the rule has no effect. Add it to exportTo there",
                named.name
            ));
            continue;
        }
        let outer = outer(route, own);
        for (number, inner) in delegate.spec.http.iter().enumerate() {
            if inner.delegate.is_some() {
                problem(format!(
                    "VirtualService {namespace}/{} delegates again in spec.http[{number}], which has no effect",
                    named.name
                ));
                continue;
            }
            let Some(route) = merged(&outer, inner, namespace) else {
                problem(format!(
                    "spec.http[{number}] of VirtualService {namespace}/{} asks for requests that no match here lets through; \
                     it has no effect",
                    named.name
                ));
                continue;
            };
            rules.push(Rule {
                route,
                delegate: Some(delegate.meta.clone()),
                field: format!("spec.http[{number}]"),
            });
        }
    }
    (rules, problems)
}

/// The rule around a delegate, with names that mean the same in the delegate's namespace.
fn outer(route: &HttpRoute, namespace: &str) -> HttpRoute {
    let mut outer = route.clone();
    outer.delegate = None;
    resolve_gateways(&mut outer.r#match, namespace);
    let mirrors = outer.mirrors.iter_mut().map(|m| &mut m.destination);
    for destination in outer.mirror.iter_mut().chain(mirrors) {
        destination.host = host::resolve(&destination.host, namespace);
    }
    outer
}

fn resolve_gateways(matches: &mut [HttpMatchRequest], namespace: &str) {
    for gateway in matches.iter_mut().flat_map(|m| &mut m.gateways) {
        *gateway = host::resolve_gateway(gateway, namespace);
    }
}

/// A delegate's rule under the rule that names the delegate: both must match, and what the inner one does not say, the
/// outer one says. `None` where nothing can match both.
fn merged(outer: &HttpRoute, inner: &HttpRoute, namespace: &str) -> Option<HttpRoute> {
    let mut conditions = inner.r#match.clone();
    resolve_gateways(&mut conditions, namespace);
    let mut out = inner.clone();
    out.r#match = both(&outer.r#match, conditions)?;
    out.name = joined(&outer.name, &inner.name);
    out.rewrite = out.rewrite.or_else(|| outer.rewrite.clone());
    out.timeout = out.timeout.or(outer.timeout);
    out.retries = out.retries.or_else(|| outer.retries.clone());
    out.fault = out.fault.or_else(|| outer.fault.clone());
    if out.mirror.is_none() && out.mirrors.is_empty() {
        out.mirror.clone_from(&outer.mirror);
        out.mirrors.clone_from(&outer.mirrors);
    }
    out.mirror_percent = out.mirror_percent.or(outer.mirror_percent);
    out.mirror_percentage = out.mirror_percentage.or_else(|| outer.mirror_percentage.clone());
    out.cors_policy = out.cors_policy.or_else(|| outer.cors_policy.clone());
    out.headers = out.headers.or_else(|| outer.headers.clone());
    Some(out)
}

fn joined(outer: &str, inner: &str) -> String {
    let parts = [outer, inner].into_iter().filter(|p| !p.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

/// Each inner match with each outer one that it can hold together with. `None` if an inner one has no such.
fn both(outer: &[HttpMatchRequest], inner: Vec<HttpMatchRequest>) -> Option<Vec<HttpMatchRequest>> {
    if outer.is_empty() {
        return Some(inner);
    }
    if inner.is_empty() {
        return Some(outer.to_vec());
    }
    let mut out = Vec::new();
    for inner in &inner {
        let before = out.len();
        out.extend(outer.iter().filter_map(|outer| united(outer, inner)));
        if out.len() == before {
            return None;
        }
    }
    Some(out)
}

/// One match that holds where both do; `None` where they exclude each other, or where one match cannot say both.
fn united(outer: &HttpMatchRequest, inner: &HttpMatchRequest) -> Option<HttpMatchRequest> {
    let single = [
        (&outer.uri, &inner.uri),
        (&outer.scheme, &inner.scheme),
        (&outer.method, &inner.method),
        (&outer.authority, &inner.authority),
    ];
    let within = |outer: &Option<StringMatch>, inner: &Option<StringMatch>| match (outer, inner) {
        (Some(outer), Some(inner)) => inside(outer, inner),
        _ => true,
    };
    let maps = [
        (&outer.headers, &inner.headers),
        (&outer.query_params, &inner.query_params),
    ];
    let fits = single.iter().all(|(outer, inner)| within(outer, inner))
        && maps.iter().all(|(outer, inner)| agree(outer, inner, inside))
        && agree(&outer.without_headers, &inner.without_headers, |a, b| a == b)
        && agree(&outer.source_labels, &inner.source_labels, |a, b| a == b)
        && (outer.uri.is_none() || inner.uri.is_none() || outer.ignore_uri_case == inner.ignore_uri_case)
        && (outer.port == 0 || inner.port == 0 || outer.port == inner.port)
        && (outer.source_namespace.is_empty()
            || inner.source_namespace.is_empty()
            || outer.source_namespace == inner.source_namespace)
        && (outer.gateways.is_empty() || inner.gateways.iter().all(|g| outer.gateways.contains(g)));
    if !fits {
        return None;
    }
    let or = |inner: &Option<StringMatch>, outer: &Option<StringMatch>| inner.clone().or_else(|| outer.clone());
    let text = |inner: &str, outer: &str| if inner.is_empty() { outer } else { inner }.to_owned();
    Some(HttpMatchRequest {
        name: joined(&outer.name, &inner.name),
        uri: or(&inner.uri, &outer.uri),
        scheme: or(&inner.scheme, &outer.scheme),
        method: or(&inner.method, &outer.method),
        authority: or(&inner.authority, &outer.authority),
        headers: over(&outer.headers, &inner.headers),
        without_headers: over(&outer.without_headers, &inner.without_headers),
        query_params: over(&outer.query_params, &inner.query_params),
        port: if inner.port == 0 { outer.port } else { inner.port },
        source_labels: over(&outer.source_labels, &inner.source_labels),
        source_namespace: text(&inner.source_namespace, &outer.source_namespace),
        gateways: if inner.gateways.is_empty() {
            outer.gateways.clone()
        } else {
            inner.gateways.clone()
        },
        ignore_uri_case: if inner.uri.is_some() {
            inner.ignore_uri_case
        } else {
            outer.ignore_uri_case
        },
        stat_prefix: text(&inner.stat_prefix, &outer.stat_prefix),
    })
}

fn agree<T>(outer: &BTreeMap<String, T>, inner: &BTreeMap<String, T>, fits: impl Fn(&T, &T) -> bool) -> bool {
    let common = inner.iter().filter_map(|(key, inner)| Some((outer.get(key)?, inner)));
    common.into_iter().all(|(outer, inner)| fits(outer, inner))
}

fn over<T: Clone>(outer: &BTreeMap<String, T>, inner: &BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut out = outer.clone();
    out.extend(inner.iter().map(|(key, value)| (key.clone(), value.clone())));
    out
}

/// Whether all that the inner condition takes is surely taken by the outer one. Nobody compares regular expressions.
fn inside(outer: &StringMatch, inner: &StringMatch) -> bool {
    match (outer, inner) {
        (StringMatch::Present, _) => true,
        (StringMatch::Prefix(outer), StringMatch::Prefix(inner) | StringMatch::Exact(inner)) => {
            inner.starts_with(outer)
        }
        (outer, inner) => outer == inner,
    }
}

#[cfg(test)]
#[path = "delegate_tests.rs"]
mod tests;
