//! Rules of VirtualService's HTTP part.

use base64::Engine as _;

use super::{
    common,
    virtual_service::{destination, weights},
};
use crate::istio::{
    CorsPolicy, FaultAbort, FaultDelay, HttpBody, HttpFaultInjection, HttpMatchRequest, HttpRedirect, HttpRetry,
    HttpRewrite, HttpRoute, StringMatch,
    error::{At, Findings},
    syntax,
};

/// Largest body of a direct response, as in Istio.
const MAX_BODY: usize = 1024 * 1024;
/// A body from here on costs memory in every proxy that has the route.
const LARGE_BODY: usize = 100 * 1024;

pub(super) fn route(at: &At<'_>, route: &HttpRoute, delegate: bool, f: &mut Findings) {
    action(at, route, delegate, f);
    for (i, entry) in route.r#match.iter().enumerate() {
        condition(&at.field("match").index(i), entry, f);
    }
    let list = at.field("route");
    for (i, entry) in route.route.iter().enumerate() {
        let at = list.index(i);
        destination(&at.field("destination"), &entry.destination, f);
        common::headers(&at.field("headers"), entry.headers.as_ref(), f);
    }
    weights(&list, route.route.iter().map(|r| r.weight), f);
    if let Some(value) = &route.redirect {
        redirect(&at.field("redirect"), value, f);
    }
    if let Some(value) = &route.direct_response {
        let at = at.field("directResponse");
        common::range(&at.field("status"), value.status.into(), 200, 599, f);
        if let Some(value) = &value.body {
            body(&at.field("body"), value, f);
        }
    }
    if let Some(value) = &route.rewrite {
        rewrite(&at.field("rewrite"), value, f);
    }
    common::duration(&at.field("timeout"), route.timeout, f);
    if let Some(value) = &route.retries {
        retries(&at.field("retries"), value, f);
    }
    if let Some(value) = &route.fault {
        fault(&at.field("fault"), value, f);
    }
    mirrors(at, route, f);
    if let Some(value) = &route.cors_policy {
        cors(&at.field("corsPolicy"), value, f);
    }
    common::headers(&at.field("headers"), route.headers.as_ref(), f);
}

/// Exactly one of destinations, redirect, direct response and delegate.
fn action(at: &At<'_>, route: &HttpRoute, delegate: bool, f: &mut Findings) {
    let set: Vec<&str> = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect();
    match set.as_slice() {
        [] => f.error(
            at,
            "nothing says where requests go; write one of route, redirect, directResponse and delegate",
        ),
        [_] => {}
        many => f.error(at, format!("only one of {} can be set", many.join(", "))),
    }
    if route.redirect.is_some() || route.direct_response.is_some() {
        for (name, set) in [("fault", route.fault.is_some()), ("rewrite", route.rewrite.is_some())] {
            if set {
                f.error(&at.field(name), "cannot be set beside redirect or directResponse");
            }
        }
    }
    if let Some(target) = &route.delegate {
        let at = at.field("delegate");
        if delegate {
            f.error(&at, "a delegate cannot delegate again; write its rules here");
        }
        if target.name.is_empty() {
            f.error(
                &at.field("name"),
                "is missing; write the name of a VirtualService without hosts",
            );
        }
    }
}

fn condition(at: &At<'_>, entry: &HttpMatchRequest, f: &mut Findings) {
    for (name, value) in [
        ("uri", &entry.uri),
        ("scheme", &entry.scheme),
        ("method", &entry.method),
        ("authority", &entry.authority),
    ] {
        common::string_match(&at.field(name), value.as_ref(), f);
    }
    for (field, map) in [("headers", &entry.headers), ("withoutHeaders", &entry.without_headers)] {
        for (header, value) in map {
            let at = at.field(field);
            let at = at.field(header);
            // `@request.auth.claims.x` matches a claim of a checked token.
            if !syntax::is_header_name(header) && !header.starts_with("@request.auth.claims") {
                f.error(
                    &at,
                    format!("{header:?} is no header name; write letters, digits, '-' and '_'"),
                );
            } else if header.bytes().any(|b| b.is_ascii_uppercase()) && !header.starts_with('@') {
                f.warning(&at, "header names are matched in lower case");
            }
            common::string_match(&at, Some(value), f);
        }
    }
    for (parameter, value) in &entry.query_params {
        common::string_match(&at.field("queryParams").field(parameter), Some(value), f);
    }
    common::optional_port(&at.field("port"), entry.port, f);
    common::labels(&at.field("sourceLabels"), &entry.source_labels, f);
    for (i, gateway) in entry.gateways.iter().enumerate() {
        common::gateway_name(&at.field("gateways").index(i), gateway, f);
    }
    if entry.ignore_uri_case && matches!(entry.uri, Some(StringMatch::Regex(_))) {
        f.warning(
            &at.field("ignoreUriCase"),
            "has no effect on a regex; begin the expression with (?i)",
        );
    }
}

fn redirect(at: &At<'_>, value: &HttpRedirect, f: &mut Findings) {
    if !value.uri.is_empty() && !value.prefix_rewrite.is_empty() {
        f.error(at, "only one of uri and prefixRewrite can be set");
    }
    if value.port.is_some() && value.derive_port.is_some() {
        f.error(at, "only one of port and derivePort can be set");
    }
    if let Some(number) = value.port {
        common::port(&at.field("port"), number, f);
    }
    if !matches!(value.scheme.as_str(), "" | "http" | "https") {
        f.error(
            &at.field("scheme"),
            format!("{:?} is no scheme of a redirect; write http or https", value.scheme),
        );
    }
    match value.redirect_code {
        0 | 301 | 302 | 303 | 307 | 308 => {}
        code => f.error(
            &at.field("redirectCode"),
            format!("{code} is no code of a redirect; write 301, 302, 303, 307 or 308"),
        ),
    }
    if *value == HttpRedirect::default() {
        f.error(
            at,
            "says nothing; write at least one of uri, prefixRewrite, authority, scheme, port and redirectCode",
        );
    }
}

fn body(at: &At<'_>, value: &HttpBody, f: &mut Findings) {
    let length = match (&value.string, &value.bytes) {
        (Some(text), None) => text.len(),
        (None, Some(encoded)) => match base64::engine::general_purpose::STANDARD.decode(encoded) {
            Ok(bytes) => bytes.len(),
            Err(error) => return f.error(&at.field("bytes"), format!("is not base64: {error}")),
        },
        (None, None) => return f.error(at, "is empty; write string or bytes"),
        (Some(_), Some(_)) => return f.error(at, "only one of string and bytes can be set"),
    };
    if length > MAX_BODY {
        f.error(at, format!("has {length} bytes; at most {MAX_BODY} are allowed"));
    } else if length > LARGE_BODY {
        f.warning(
            at,
            format!("has {length} bytes, held by every proxy that has this route"),
        );
    }
}

fn rewrite(at: &At<'_>, value: &HttpRewrite, f: &mut Findings) {
    if let Some(expression) = &value.uri_regex_rewrite {
        let inner = at.field("uriRegexRewrite");
        if !value.uri.is_empty() {
            f.error(at, "only one of uri and uriRegexRewrite can be set");
        }
        if expression.r#match.is_empty() {
            f.error(
                &inner.field("match"),
                "is missing; write the expression that the path is searched for",
            );
        }
        common::regex(&inner.field("match"), &expression.r#match, f);
    } else if value.uri.is_empty() && value.authority.is_empty() {
        f.error(at, "says nothing; write uri, uriRegexRewrite or authority");
    }
}

fn retries(at: &At<'_>, value: &HttpRetry, f: &mut Findings) {
    common::not_negative(&at.field("attempts"), value.attempts, f);
    let others =
        value.per_try_timeout.is_some() || !value.retry_on.is_empty() || value.retry_remote_localities.is_some();
    if value.attempts == 0 && others {
        f.error(
            &at.field("attempts"),
            "is 0 or missing, which turns retries off, but other retry fields are set; give it a value",
        );
    }
    common::duration(&at.field("perTryTimeout"), value.per_try_timeout, f);
    common::duration(&at.field("backoff"), value.backoff, f);
    for condition in value.retry_on.split(',').map(str::trim).filter(|c| !c.is_empty()) {
        let known = match condition.parse::<u32>() {
            Ok(code) => (100..=599).contains(&code),
            Err(_) => syntax::RETRY_ON.contains(&condition),
        };
        if !known {
            f.error(
                &at.field("retryOn"),
                format!(
                    "{condition:?} is no condition; write status codes or some of {}",
                    syntax::RETRY_ON.join(", ")
                ),
            );
        }
    }
}

fn fault(at: &At<'_>, value: &HttpFaultInjection, f: &mut Findings) {
    if value.delay.is_none() && value.abort.is_none() {
        f.error(at, "says nothing; write delay or abort");
    }
    if let Some(value) = &value.delay {
        delay(&at.field("delay"), value, f);
    }
    if let Some(value) = &value.abort {
        abort(&at.field("abort"), value, f);
    }
}

fn delay(at: &At<'_>, value: &FaultDelay, f: &mut Findings) {
    if value.exponential_delay.is_some() {
        f.error(
            &at.field("exponentialDelay"),
            "is not supported, as in Istio; write fixedDelay",
        );
    } else if value.fixed_delay.is_none() {
        f.error(
            &at.field("fixedDelay"),
            "is missing; write how long requests are held up, such as 2s",
        );
    }
    common::duration(&at.field("fixedDelay"), value.fixed_delay, f);
    common::percent(&at.field("percentage"), value.percentage.as_ref(), f);
    common::range(&at.field("percent"), value.percent.into(), 0, 100, f);
    if value.percentage.is_none() && value.percent == 0 {
        f.warning(
            at,
            "never fires: there is no percentage; write percentage: {value: 100} for every request",
        );
    }
}

fn abort(at: &At<'_>, value: &FaultAbort, f: &mut Findings) {
    let set = usize::from(value.http_status.is_some()) + usize::from(value.grpc_status.is_some());
    if value.http2_error.is_some() {
        f.error(
            &at.field("http2Error"),
            "is not supported, as in Istio; write httpStatus or grpcStatus",
        );
    } else if set != 1 {
        f.error(at, "exactly one of httpStatus and grpcStatus must be set");
    }
    if let Some(status) = value.http_status {
        common::range(&at.field("httpStatus"), status.into(), 200, 599, f);
    }
    if let Some(status) = &value.grpc_status
        && !syntax::GRPC_STATUS.contains(&status.as_str())
    {
        f.error(
            &at.field("grpcStatus"),
            format!(
                "{status:?} is no gRPC status; write one of {}",
                syntax::GRPC_STATUS.join(", ")
            ),
        );
    }
    common::percent(&at.field("percentage"), value.percentage.as_ref(), f);
    common::range(&at.field("percent"), value.percent.into(), 0, 100, f);
    if value.percentage.is_none() && value.percent == 0 {
        f.warning(
            at,
            "never fires: there is no percentage; write percentage: {value: 100} for every request",
        );
    }
}

fn mirrors(at: &At<'_>, route: &HttpRoute, f: &mut Findings) {
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        f.error(at, "only one of mirror and mirrors can be set");
    }
    if let Some(target) = &route.mirror {
        destination(&at.field("mirror"), target, f);
    } else if route.mirror_percent.is_some() || route.mirror_percentage.is_some() {
        f.warning(&at.field("mirrorPercentage"), "has no effect without mirror");
    }
    if let Some(share) = route.mirror_percent {
        common::range(&at.field("mirrorPercent"), share.into(), 0, 100, f);
    }
    common::percent(&at.field("mirrorPercentage"), route.mirror_percentage.as_ref(), f);
    for (i, mirror) in route.mirrors.iter().enumerate() {
        let at = at.field("mirrors");
        let at = at.index(i);
        destination(&at.field("destination"), &mirror.destination, f);
        common::percent(&at.field("percentage"), mirror.percentage.as_ref(), f);
    }
}

fn cors(at: &At<'_>, value: &CorsPolicy, f: &mut Findings) {
    const METHODS: [&str; 10] = [
        "*", "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    for (i, origin) in value.allow_origins.iter().enumerate() {
        common::string_match(&at.field("allowOrigins").index(i), Some(origin), f);
    }
    for (i, method) in value.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            f.error(
                &at.field("allowMethods").index(i),
                format!("{method:?} is no method; write one of {}", METHODS.join(", ")),
            );
        }
    }
    for (field, list) in [
        ("allowHeaders", &value.allow_headers),
        ("exposeHeaders", &value.expose_headers),
    ] {
        for (i, header) in list.iter().enumerate() {
            if header != "*" && !syntax::is_header_name(header) {
                f.error(
                    &at.field(field).index(i),
                    format!("{header:?} is no header name; write letters, digits, '-' and '_'"),
                );
            }
        }
    }
    common::duration_or_zero(&at.field("maxAge"), value.max_age, f);
    if value.max_age.is_some_and(|age| age.0.subsec_nanos() != 0) {
        f.error(&at.field("maxAge"), "must be a whole number of seconds");
    }
}
