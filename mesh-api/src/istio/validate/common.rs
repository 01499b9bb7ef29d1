//! Checks that several kinds share.

use std::collections::{BTreeMap, BTreeSet};

use crate::istio::{
    Duration, Headers, Percent, PolicyTargetReference, StringMatch, WorkloadLabels, WorkloadSelector,
    error::{At, Findings},
    syntax,
};

/// Longest regular expression, as in Istio.
const MAX_REGEX: usize = 1024;
/// Shortest duration, as in Istio.
const MIN_DURATION: std::time::Duration = std::time::Duration::from_millis(1);

/// At least 1 ms, in whole milliseconds.
pub(super) fn duration(at: &At<'_>, value: Option<Duration>, f: &mut Findings) {
    if let Some(Duration(value)) = value {
        if value < MIN_DURATION {
            f.error(at, "must be at least 1ms; leave the field out for the default");
        } else if value.subsec_nanos() % 1_000_000 != 0 {
            f.error(at, "must be a whole number of milliseconds");
        }
    }
}

/// As [`duration`], or 0 s, which turns the feature off.
pub(super) fn duration_or_zero(at: &At<'_>, value: Option<Duration>, f: &mut Findings) {
    duration(at, value.filter(|v| !v.0.is_zero()), f);
}

/// 0.0, or 0.0001 to 100.0.
pub(super) fn percent(at: &At<'_>, value: Option<&Percent>, f: &mut Findings) {
    if let Some(Percent { value }) = value
        && *value != 0.0
        && !(0.0001..=100.0).contains(value)
    {
        f.error(
            &at.field("value"),
            format!("{value} is no percentage: write 0.0, or 0.0001 to 100.0"),
        );
    }
}

/// 1 to 65535.
pub(super) fn port(at: &At<'_>, number: u32, f: &mut Findings) {
    if !(1..=65535).contains(&number) {
        f.error(at, format!("{number} is no port: write a number from 1 to 65535"));
    }
}

/// 0 for "not set", or a port.
pub(super) fn optional_port(at: &At<'_>, number: u32, f: &mut Findings) {
    if number != 0 {
        port(at, number, f);
    }
}

/// At least 0.
pub(super) fn not_negative(at: &At<'_>, value: i32, f: &mut Findings) {
    if value < 0 {
        f.error(at, format!("{value} is negative; write 0 or more"));
    }
}

/// `low` to `high`.
pub(super) fn range(at: &At<'_>, value: i64, low: i64, high: i64, f: &mut Findings) {
    if !(low..=high).contains(&value) {
        f.error(at, format!("{value} is out of range; write {low} to {high}"));
    }
}

/// An expression that compiles.
pub(super) fn regex(at: &At<'_>, text: &str, f: &mut Findings) {
    if text.len() > MAX_REGEX {
        f.error(
            at,
            format!(
                "the regular expression has {} characters; at most {MAX_REGEX} are allowed",
                text.len()
            ),
        );
    } else if let Err(error) = regex::Regex::new(text) {
        // The parser's error draws the place over several lines; the last one says what is wrong.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default();
        f.error(
            at,
            format!(
                "{text:?} is no regular expression: {}",
                reason.trim_start_matches("error: ")
            ),
        );
    }
}

pub(super) fn string_match(at: &At<'_>, value: Option<&StringMatch>, f: &mut Findings) {
    if let Some(StringMatch::Regex(text)) = value {
        if text.is_empty() {
            f.error(&at.field("regex"), "must not be empty; write .* to match anything");
        }
        regex(&at.field("regex"), text, f);
    }
}

/// A host name, `*.` wildcard or `*`.
pub(super) fn wildcard_host(at: &At<'_>, host: &str, f: &mut Findings) {
    if host.is_empty() {
        f.error(at, "must not be empty; write a host name");
    } else if !syntax::is_wildcard_host(host) {
        f.error(at, format!("{host:?} is no host name; write a name such as reviews, reviews.prod.svc.cluster.local or *.example.com"));
    }
}

/// `.`, `*` or names of namespaces; `~` (nobody) for services.
pub(super) fn export_to(at: &At<'_>, list: &[String], nobody: bool, f: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (i, entry) in list.iter().enumerate() {
        let at = at.index(i);
        let known = entry == "." || entry == "*" || (nobody && entry == "~");
        if !known && !syntax::is_dns1123(entry, false) {
            f.error(
                &at,
                format!("{entry:?} is no namespace; write \".\" for this one, \"*\" for all, or a name"),
            );
        }
        if !seen.insert(entry) {
            f.error(&at, format!("{entry:?} stands here twice"));
        }
        if list.len() > 1 && (entry == "*" || entry == "~") {
            f.error(&at, format!("{entry:?} must stand alone"));
        }
    }
}

/// `namespace/name`, or `name`.
pub(super) fn gateway_name(at: &At<'_>, name: &str, f: &mut Findings) {
    let (namespace, short) = name.split_once('/').unwrap_or(("x", name));
    let namespace_ok = namespace == "." || syntax::is_dns1123(namespace, false);
    if !namespace_ok || !syntax::is_dns1123(short, true) {
        f.error(
            at,
            format!("{name:?} names no gateway; write name, namespace/name, or mesh for the sidecars"),
        );
    }
}

/// Keys and values of labels.
pub(super) fn labels(at: &At<'_>, labels: &BTreeMap<String, String>, f: &mut Findings) {
    for (key, value) in labels {
        let at = at.field(key);
        let (prefix, name) = key.split_once('/').map_or((None, key.as_str()), |(p, n)| (Some(p), n));
        if !is_label_value(name) || name.is_empty() || prefix.is_some_and(|p| !syntax::is_dns1123(p, true)) {
            f.error(
                &at,
                format!(
                    "{key:?} is no label key; write letters, digits, '-', '_', '.', with an optional prefix and '/'"
                ),
            );
        }
        if !is_label_value(value) {
            f.error(
                &at,
                format!("{value:?} is no label value; write at most 63 letters, digits, '-', '_', '.'"),
            );
        }
    }
}

fn is_label_value(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
}

pub(super) fn workload_labels(at: &At<'_>, selector: Option<&WorkloadLabels>, f: &mut Findings) {
    if let Some(selector) = selector {
        labels(&at.field("labels"), &selector.labels, f);
    }
}

pub(super) fn workload_selector(at: &At<'_>, selector: Option<&WorkloadSelector>, f: &mut Findings) {
    if let Some(selector) = selector {
        labels(&at.field("matchLabels"), &selector.match_labels, f);
    }
}

/// At most one way to choose workloads, and target references that are whole.
pub(super) fn targets(
    at: &At<'_>,
    selector: bool,
    target_ref: Option<&PolicyTargetReference>,
    target_refs: &[PolicyTargetReference],
    f: &mut Findings,
) {
    let set = usize::from(selector) + usize::from(target_ref.is_some()) + usize::from(!target_refs.is_empty());
    if set > 1 {
        f.error(
            at,
            "only one of a workload selector, targetRef and targetRefs can be set",
        );
    }
    if target_refs.len() > 16 {
        f.error(&at.field("targetRefs"), "at most 16 targets are allowed");
    }
    if let Some(target) = target_ref {
        target_reference(&at.field("targetRef"), target, f);
    }
    for (i, target) in target_refs.iter().enumerate() {
        target_reference(&at.field("targetRefs").index(i), target, f);
    }
}

fn target_reference(at: &At<'_>, target: &PolicyTargetReference, f: &mut Findings) {
    if target.kind.is_empty() {
        f.error(
            &at.field("kind"),
            "is missing; write Gateway, GatewayClass, Service or ServiceEntry",
        );
    }
    if target.name.is_empty() {
        f.error(&at.field("name"), "is missing; write the name of the target");
    }
    if !target.namespace.is_empty() {
        f.error(
            &at.field("namespace"),
            "targets of other namespaces are not allowed; leave the field out",
        );
    }
    let known = matches!(
        (target.group.as_str(), target.kind.as_str()),
        ("gateway.networking.k8s.io", "Gateway" | "GatewayClass")
            | ("" | "core", "Service")
            | ("networking.istio.io", "ServiceEntry")
    );
    if !known && !target.kind.is_empty() {
        f.error(at, format!("{} of group {:?} cannot be a target; known are Gateway and GatewayClass (gateway.networking.k8s.io), Service, ServiceEntry (networking.istio.io)", target.kind, target.group));
    }
}

/// Names of headers that are changed.
pub(super) fn headers(at: &At<'_>, headers: Option<&Headers>, f: &mut Findings) {
    let Some(headers) = headers else { return };
    for (name, operations) in [("request", &headers.request), ("response", &headers.response)] {
        let Some(operations) = operations else { continue };
        let at = at.field(name);
        for (field, map) in [("set", &operations.set), ("add", &operations.add)] {
            for header in map.keys() {
                let authority = name == "request" && field == "set" && header == ":authority";
                if !authority && !syntax::is_header_name(header) {
                    f.error(
                        &at.field(field).field(header),
                        format!("{header:?} is no header name; write letters, digits, '-' and '_'"),
                    );
                }
            }
        }
        for (i, header) in operations.remove.iter().enumerate() {
            if header.eq_ignore_ascii_case("host") {
                f.error(
                    &at.field("remove").index(i),
                    "a request needs its host, which cannot be removed; set another one, or take this out",
                );
            }
            if !syntax::is_header_name(header) {
                f.error(
                    &at.field("remove").index(i),
                    format!("{header:?} is no header name; write letters, digits, '-' and '_'"),
                );
            }
        }
    }
}

/// Reports every entry that stands in the list before, by its spelling in lower case.
pub(super) fn duplicates<'t>(at: &At<'_>, list: impl Iterator<Item = &'t str>, f: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (i, entry) in list.enumerate() {
        if !seen.insert(entry.to_ascii_lowercase()) {
            f.error(&at.index(i), format!("{entry:?} stands here twice; remove one"));
        }
    }
}

/// An address, or a range.
pub(super) fn ip_or_cidr(at: &At<'_>, text: &str, f: &mut Findings) {
    if !syntax::is_ip_or_cidr(text) {
        f.error(
            at,
            format!("{text:?} is no address or range; write for example 10.0.0.1 or 10.0.0.0/8"),
        );
    }
}
