//! Redirects.

use http::{HeaderValue, StatusCode, header};

use super::reply::Local;
use super::routes::{Facts, rewrite_prefix, without_port};
use crate::snapshot::{PathMatch, Redirect};
use crate::telemetry::ResponseFlags;

/// The response of a redirect route.
pub(super) fn reply(redirect: &Redirect, on: &PathMatch, facts: &Facts<'_>) -> Local {
    let mut local = Local::new(redirect.code, "", ResponseFlags::NONE, "direct_response");
    match HeaderValue::try_from(location(redirect, on, facts)) {
        Ok(location) => {
            local.headers.insert(header::LOCATION, location);
            local
        }
        Err(_) => Local::bad_request("bad_redirect_target"),
    }
}

/// `location` of a direct response with such a status: the place that was asked for, as Envoy has it.
pub(super) fn of_direct_response(status: StatusCode, facts: &Facts<'_>) -> Option<HeaderValue> {
    if status != StatusCode::CREATED && !status.is_redirection() {
        return None;
    }
    HeaderValue::try_from(location(&Redirect::default(), &PathMatch::Connect, facts)).ok()
}

/// To the same place over TLS (`require_tls`).
pub(super) fn to_https(facts: &Facts<'_>) -> Local {
    let redirect = Redirect {
        scheme: Some("https".to_owned()),
        code: StatusCode::MOVED_PERMANENTLY,
        ..Redirect::default()
    };
    reply(&redirect, &PathMatch::Connect, facts)
}

fn location(redirect: &Redirect, on: &PathMatch, facts: &Facts<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(facts.scheme);
    let own_host = without_port(facts.authority);
    let own_port = facts.authority.get(own_host.len()..).unwrap_or_default();
    let host = redirect.host.as_deref().unwrap_or(own_host);
    let mut out = format!("{scheme}://{host}");
    match redirect.port {
        Some(port) => {
            use std::fmt::Write as _;
            // Writing to a String does not fail.
            let _ = write!(out, ":{port}");
        }
        // The default port of the old scheme would be wrong under the new one.
        None if redirect.host.is_none() => {
            let default =
                (facts.scheme == "http" && own_port == ":80") || (facts.scheme == "https" && own_port == ":443");
            if !(default && redirect.scheme.is_some()) {
                out.push_str(own_port);
            }
        }
        None => {}
    }
    let mut query = facts.query.filter(|_| !redirect.strip_query);
    // One of the three, or none: they are a oneof in `RedirectAction`.
    if let Some(path) = &redirect.path {
        out.push_str(path);
        if path.contains('?') {
            query = None;
        }
    } else if let Some(prefix) = &redirect.prefix_rewrite {
        out.push_str(&rewrite_prefix(on, facts.path, prefix));
    } else if let Some((regex, to)) = &redirect.regex_rewrite {
        out.push_str(&regex.replace_all(facts.path, to.as_str()));
    } else {
        out.push_str(facts.path);
    }
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn locations() {
        let headers = HeaderMap::new();
        let facts = Facts {
            method: &Method::GET,
            authority: "old.example.com:80",
            scheme: "http",
            path: "/a/b",
            query: Some("q=1"),
            headers: &headers,
            connect: false,
        };
        let on = PathMatch::Prefix("/a".to_owned());
        let to = |r: Redirect| location(&r, &on, &facts);
        let base = Redirect::default;
        assert_eq!(to(base()), "http://old.example.com:80/a/b?q=1");
        assert_eq!(
            to(Redirect {
                scheme: Some("https".into()),
                ..base()
            }),
            "https://old.example.com/a/b?q=1"
        );
        assert_eq!(
            to(Redirect {
                host: Some("new.example.com".into()),
                strip_query: true,
                ..base()
            }),
            "http://new.example.com/a/b"
        );
        assert_eq!(
            to(Redirect {
                prefix_rewrite: Some("/c".into()),
                port: Some(8080),
                ..base()
            }),
            "http://old.example.com:8080/c/b?q=1"
        );
        assert_eq!(
            to(Redirect {
                regex_rewrite: Some((regex::Regex::new("^/a/(.*)").unwrap(), "/${1}/z".into())),
                ..base()
            }),
            "http://old.example.com:80/b/z?q=1"
        );
        assert_eq!(
            to(Redirect {
                path: Some("/x?y=z".into()),
                ..base()
            }),
            "http://old.example.com:80/x?y=z"
        );
    }
}
