//! Rules of PeerAuthentication, RequestAuthentication and AuthorizationPolicy.

use super::common;
use crate::istio::{
    AuthorizationAction, AuthorizationPolicy, Condition, JwtRule, Operation, PeerAuthentication, RequestAuthentication,
    Source,
    error::{At, Findings},
    syntax,
};

pub(super) fn peer(spec: &PeerAuthentication, at: &At<'_>, f: &mut Findings) {
    common::workload_selector(&at.field("selector"), spec.selector.as_ref(), f);
    let selected = spec.selector.as_ref().is_some_and(|s| !s.match_labels.is_empty());
    let ports = at.field("portLevelMtls");
    if !spec.port_level_mtls.is_empty() && !selected {
        f.error(&ports, "needs a selector with matchLabels: ports belong to workloads");
    }
    for number in spec.port_level_mtls.keys() {
        common::port(&ports.field(&number.to_string()), *number, f);
    }
}

pub(super) fn request(spec: &RequestAuthentication, at: &At<'_>, f: &mut Findings) {
    common::workload_selector(&at.field("selector"), spec.selector.as_ref(), f);
    common::targets(
        at,
        spec.selector.is_some(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
        f,
    );
    for (i, rule) in spec.jwt_rules.iter().enumerate() {
        jwt_rule(&at.field("jwtRules").index(i), rule, f);
    }
}

fn jwt_rule(at: &At<'_>, rule: &JwtRule, f: &mut Findings) {
    if rule.issuer.is_empty() {
        f.error(&at.field("issuer"), "is missing; write the iss claim of the tokens");
    }
    if !rule.jwks.is_empty() && !rule.jwks_uri.is_empty() {
        f.error(at, "only one of jwks and jwksUri can be set");
    }
    if !rule.jwks_uri.is_empty()
        && !["http://", "https://"]
            .iter()
            .any(|scheme| rule.jwks_uri.starts_with(scheme))
    {
        f.error(
            &at.field("jwksUri"),
            format!("{:?} is no URL; begin with https:// or http://", rule.jwks_uri),
        );
    }
    if !rule.jwks.is_empty() {
        let keys = serde_json::from_str::<serde_json::Value>(&rule.jwks).is_ok_and(|v| v["keys"].is_array());
        if !keys {
            f.error(
                &at.field("jwks"),
                "is no key set; write JSON of the form {\"keys\": […]}",
            );
        }
    }
    for (field, list) in [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
    ] {
        not_empty(&at.field(field), list, f);
    }
    for (i, header) in rule.from_headers.iter().enumerate() {
        if header.name.is_empty() {
            f.error(
                &at.field("fromHeaders").index(i).field("name"),
                "is missing; write the name of the header",
            );
        }
    }
    for (i, entry) in rule.output_claim_to_headers.iter().enumerate() {
        let at = at.field("outputClaimToHeaders");
        let at = at.index(i);
        if !syntax::is_header_name(&entry.header) {
            f.error(
                &at.field("header"),
                format!(
                    "{:?} is no header name; write letters, digits, '-' and '_'",
                    entry.header
                ),
            );
        }
        if entry.claim.is_empty() {
            f.error(&at.field("claim"), "is missing; write the name of the claim");
        }
    }
    common::duration(&at.field("timeout"), rule.timeout, f);
}

pub(super) fn authorization(spec: &AuthorizationPolicy, at: &At<'_>, f: &mut Findings) {
    common::workload_selector(&at.field("selector"), spec.selector.as_ref(), f);
    common::targets(
        at,
        spec.selector.is_some(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
        f,
    );
    let custom = spec.action == AuthorizationAction::Custom;
    match &spec.provider {
        None if custom => f.error(
            &at.field("provider"),
            "is missing; CUSTOM needs the name of an extension provider",
        ),
        Some(provider) if custom && provider.name.is_empty() => {
            f.error(
                &at.field("provider").field("name"),
                "is missing; write the name of an extension provider",
            );
        }
        Some(_) if !custom => f.error(
            &at.field("provider"),
            format!("is only for action CUSTOM, not {}", spec.action),
        ),
        _ => {}
    }
    if spec.rules.is_empty() && spec.action != AuthorizationAction::Allow {
        f.warning(
            &at.field("rules"),
            format!(
                "is empty: nothing matches, so {} never happens; write rules: [{{}}] to match everything",
                spec.action
            ),
        );
    }
    for (i, rule) in spec.rules.iter().enumerate() {
        let at = at.field("rules");
        let at = at.index(i);
        for (i, from) in rule.from.iter().enumerate() {
            let at = at.field("from");
            let at = at.index(i);
            let at = at.field("source");
            match &from.source {
                Some(value) if *value != Source::default() => source(&at, value, f),
                _ => f.error(
                    &at,
                    "is empty; write at least one field, or leave from out to match any source",
                ),
            }
        }
        for (i, to) in rule.to.iter().enumerate() {
            let at = at.field("to");
            let at = at.index(i);
            let at = at.field("operation");
            match &to.operation {
                Some(value) if *value != Operation::default() => operation(&at, value, f),
                _ => f.error(
                    &at,
                    "is empty; write at least one field, or leave to out to match any operation",
                ),
            }
        }
        for (i, when) in rule.when.iter().enumerate() {
            condition(&at.field("when").index(i), when, f);
        }
    }
}

fn not_empty(at: &At<'_>, list: &[String], f: &mut Findings) {
    for (i, value) in list.iter().enumerate() {
        if value.is_empty() {
            f.error(&at.index(i), "must not be empty");
        }
    }
}

fn source(at: &At<'_>, value: &Source, f: &mut Findings) {
    for (field, list) in [
        ("principals", &value.principals),
        ("notPrincipals", &value.not_principals),
        ("requestPrincipals", &value.request_principals),
        ("notRequestPrincipals", &value.not_request_principals),
        ("namespaces", &value.namespaces),
        ("notNamespaces", &value.not_namespaces),
        ("trustDomains", &value.trust_domains),
        ("notTrustDomains", &value.not_trust_domains),
    ] {
        not_empty(&at.field(field), list, f);
    }
    for (field, list) in [
        ("principals", &value.principals),
        ("notPrincipals", &value.not_principals),
    ] {
        for (i, principal) in list.iter().enumerate() {
            if let Some(rest) = principal.strip_prefix("spiffe://") {
                f.warning(
                    &at.field(field).index(i),
                    format!("never matches: principals are written without spiffe://, as {rest}"),
                );
            }
        }
    }
    for (field, list) in [
        ("serviceAccounts", &value.service_accounts),
        ("notServiceAccounts", &value.not_service_accounts),
    ] {
        if list.len() > 16 {
            f.error(&at.field(field), "at most 16 are allowed");
        }
        for (i, account) in list.iter().enumerate() {
            let parts: Vec<&str> = account.split('/').collect();
            if parts.len() > 2 || parts.iter().any(|part| part.is_empty() || part.contains('*')) {
                f.error(
                    &at.field(field).index(i),
                    format!("{account:?} is no service account; write account or namespace/account"),
                );
            }
        }
    }
    let accounts = !value.service_accounts.is_empty() || !value.not_service_accounts.is_empty();
    let others = [
        &value.principals,
        &value.not_principals,
        &value.namespaces,
        &value.not_namespaces,
    ];
    if accounts && others.iter().any(|list| !list.is_empty()) {
        f.error(
            at,
            "serviceAccounts cannot be set beside principals or namespaces; they name all three",
        );
    }
    for (field, list) in [
        ("ipBlocks", &value.ip_blocks),
        ("notIpBlocks", &value.not_ip_blocks),
        ("remoteIpBlocks", &value.remote_ip_blocks),
        ("notRemoteIpBlocks", &value.not_remote_ip_blocks),
    ] {
        for (i, block) in list.iter().enumerate() {
            common::ip_or_cidr(&at.field(field).index(i), block, f);
        }
    }
}

fn operation(at: &At<'_>, value: &Operation, f: &mut Findings) {
    for (field, list) in [
        ("hosts", &value.hosts),
        ("notHosts", &value.not_hosts),
        ("methods", &value.methods),
        ("notMethods", &value.not_methods),
        ("paths", &value.paths),
        ("notPaths", &value.not_paths),
    ] {
        not_empty(&at.field(field), list, f);
    }
    for (field, list) in [("ports", &value.ports), ("notPorts", &value.not_ports)] {
        for (i, port) in list.iter().enumerate() {
            if !port.parse::<u16>().is_ok_and(|p| p > 0) {
                f.error(
                    &at.field(field).index(i),
                    format!("{port:?} is no port; write a number from 1 to 65535, in quotes"),
                );
            }
        }
    }
    for (field, list) in [("paths", &value.paths), ("notPaths", &value.not_paths)] {
        for (i, path) in list.iter().enumerate() {
            if path.contains(['{', '}']) && !is_template(path) {
                f.error(&at.field(field).index(i), format!("{path:?} is no path template; write {{*}} for one segment, {{**}} last for the rest, and no other *"));
            }
        }
    }
}

/// `{*}` stands for one segment, `{**}` for all that is left, each as a whole segment; a plain `*` cannot stand beside them.
fn is_template(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').collect();
    let rest = segments.iter().position(|s| *s == "{**}");
    segments
        .iter()
        .all(|s| matches!(*s, "{*}" | "{**}") || !s.contains(['{', '}', '*']))
        && rest.is_none_or(|at| !segments[at + 1..].iter().any(|s| matches!(*s, "{*}" | "{**}")))
}

fn condition(at: &At<'_>, value: &Condition, f: &mut Findings) {
    const PLAIN: [&str; 12] = [
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
        "source.principal",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    ];
    const KEYED: [&str; 3] = [
        "request.headers[",
        "request.auth.claims[",
        "experimental.envoy.filters.",
    ];
    let key = &value.key;
    let keyed = KEYED.iter().any(|prefix| key.starts_with(prefix)) && key.ends_with(']');
    if key.is_empty() {
        f.error(
            &at.field("key"),
            "is missing; write an attribute such as source.ip or request.headers[x-user]",
        );
    } else if !keyed && !PLAIN.contains(&key.as_str()) {
        f.error(&at.field("key"), format!("{key:?} is no attribute; known are {}, request.headers[NAME], request.auth.claims[NAME] and experimental.envoy.filters.FILTER[KEY]", PLAIN.join(", ")));
    }
    if value.values.is_empty() && value.not_values.is_empty() {
        f.error(at, "at least one of values and notValues must be set");
    }
    for (field, list) in [("values", &value.values), ("notValues", &value.not_values)] {
        let at = at.field(field);
        not_empty(&at, list, f);
        for (i, entry) in list.iter().enumerate() {
            match key.as_str() {
                "source.ip" | "remote.ip" | "destination.ip" => common::ip_or_cidr(&at.index(i), entry, f),
                "destination.port" if !entry.parse::<u16>().is_ok_and(|p| p > 0) => {
                    f.error(
                        &at.index(i),
                        format!("{entry:?} is no port; write a number from 1 to 65535, in quotes"),
                    );
                }
                _ => {}
            }
        }
    }
}
