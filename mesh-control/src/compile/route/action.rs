//! Redirects, fixed responses and rewrites.

use base64::Engine as _;
use mesh_api::istio::{HttpDirectResponse, HttpRedirect, HttpRewrite, RedirectPort};

use super::super::pb::{core, matcher, regex, route};

/// Marks a redirect that keeps what stands after the matched prefix.
const PREFIX_MARK: &str = "%PREFIX()%";

/// A redirect of requests that come to `port`, over TLS that ends there or without.
pub(super) fn redirect(from: &HttpRedirect, port: u16, tls: bool) -> route::route::Action {
    use route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let path = if !from.prefix_rewrite.is_empty() {
        Some(PathRewriteSpecifier::PrefixRewrite(from.prefix_rewrite.clone()))
    } else if let Some(prefix) = from.uri.strip_prefix(PREFIX_MARK) {
        Some(PathRewriteSpecifier::PrefixRewrite(prefix.to_owned()))
    } else if from.uri.is_empty() {
        None
    } else {
        Some(PathRewriteSpecifier::PathRedirect(from.uri.clone()))
    };
    let derived = match from.derive_port {
        Some(RedirectPort::FromRequestPort) => Some(port.into()),
        // The proxy leaves the port out where the scheme changes, which is that.
        Some(RedirectPort::FromProtocolDefault) | None => None,
    };
    let standard = match from.scheme.as_str() {
        "" if tls => 443,
        "https" => 443,
        "" | "http" => 80,
        _ => 0,
    };
    let code = match from.redirect_code {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    route::route::Action::Redirect(route::RedirectAction {
        host_redirect: from.authority.clone(),
        // Nobody writes the port that everybody knows.
        port_redirect: from.port.or(derived).filter(|p| *p != standard).unwrap_or_default(),
        response_code: code.into(),
        scheme_rewrite_specifier: (!from.scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(from.scheme.clone())),
        path_rewrite_specifier: path,
        ..Default::default()
    })
}

pub(super) fn direct_response(from: &HttpDirectResponse) -> route::route::Action {
    use core::data_source::Specifier;
    let body = from.body.as_ref().and_then(|body| {
        let text = body.string.clone().map(Specifier::InlineString);
        let bytes = || {
            let decoded = base64::engine::general_purpose::STANDARD.decode(body.bytes.as_deref()?);
            decoded.ok().map(Specifier::InlineBytes)
        };
        text.or_else(bytes)
    });
    route::route::Action::DirectResponse(route::DirectResponseAction {
        status: from.status,
        body: body.map(|specifier| core::DataSource {
            specifier: Some(specifier),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// A route that answers with a status and nothing else.
pub(in super::super) fn status(status: u32) -> route::route::Action {
    route::route::Action::DirectResponse(route::DirectResponseAction {
        status,
        ..Default::default()
    })
}

/// Changes of the path; the authority is the caller's.
pub(super) fn rewrite(from: &HttpRewrite, out: &mut route::RouteAction) {
    if let Some(by_regex) = &from.uri_regex_rewrite {
        out.regex_rewrite = Some(matcher::RegexMatchAndSubstitute {
            pattern: Some(regex(&by_regex.r#match)),
            substitution: by_regex.rewrite.clone(),
        });
    } else {
        out.prefix_rewrite.clone_from(&from.uri);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_redirects_are_left_out_where_the_scheme_says_them() {
        let port = |scheme: &str, given: Option<u32>, derive_port: Option<RedirectPort>, port: u16, tls: bool| {
            let from = HttpRedirect {
                scheme: scheme.to_owned(),
                port: given,
                derive_port,
                ..Default::default()
            };
            match redirect(&from, port, tls) {
                route::route::Action::Redirect(redirect) => redirect.port_redirect,
                other => panic!("{other:?}"),
            }
        };
        let request = Some(RedirectPort::FromRequestPort);
        let protocol = Some(RedirectPort::FromProtocolDefault);
        assert_eq!(port("", None, request, 8080, false), 8080);
        assert_eq!(port("", None, request, 80, false), 0);
        assert_eq!(port("", None, request, 443, true), 0);
        assert_eq!(port("", None, request, 443, false), 443);
        assert_eq!(port("https", None, request, 80, false), 80);
        assert_eq!(port("https", None, protocol, 80, false), 0);
        assert_eq!(port("", None, protocol, 8080, false), 0);
        assert_eq!(port("https", Some(8443), None, 80, false), 8443);
        assert_eq!(port("https", Some(443), None, 80, false), 0);
        assert_eq!(port("", None, None, 8080, false), 0);
    }
}
