use http::{HeaderName, HeaderValue};

use super::*;
use crate::snapshot::{HeaderOpsPair, RequireTls, RouteAction, StringMatch, StringPattern};

fn host(name: &str) -> Arc<VirtualHost> {
    Arc::new(VirtualHost {
        name: name.into(),
        routes: Vec::new(),
        require_tls: RequireTls::None,
        headers: HeaderOpsPair::default(),
        include_attempt_count: false,
        retry: None,
        hedge_on_per_try_timeout: false,
        origin: None,
    })
}

fn table() -> RouteTable {
    let mut table = RouteTable {
        virtual_hosts: ["exact", "long", "short", "prefix", "any"].map(host).to_vec(),
        any: Some(4),
        ..RouteTable::default()
    };
    table.exact.insert("a.example.com".to_owned(), 0);
    table.suffix = vec![(".b.example.com".to_owned(), 1), (".example.com".to_owned(), 2)];
    table.prefix = vec![("web.".to_owned(), 3)];
    table
}

#[test]
fn hosts_by_exact_then_suffix_then_prefix_then_any() {
    let mut table = table();
    for (authority, expected) in [
        ("a.example.com", "exact"),
        ("A.Example.COM", "exact"),
        ("c.example.com", "short"),
        ("c.b.example.com", "long"),
        ("web.local", "prefix"),
        (".example.com", "any"),
        ("a.example.com:80", "any"),
        ("", "any"),
    ] {
        assert_eq!(&*virtual_host(&table, authority).unwrap().name, expected, "{authority}");
    }
    table.ignore_port = true;
    assert_eq!(&*virtual_host(&table, "a.example.com:80").unwrap().name, "exact");
}

#[test]
fn ports_are_told_from_ipv6() {
    assert_eq!(without_port("h:80"), "h");
    assert_eq!(without_port("h"), "h");
    assert_eq!(without_port("[::1]:80"), "[::1]");
    assert_eq!(without_port("[::1]"), "[::1]");
    assert_eq!(without_port("::1"), "::1");
}

fn on(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        case_sensitive: true,
        headers: Vec::new(),
        query: Vec::new(),
        fraction: None,
        grpc: false,
    }
}

fn check(on: RouteMatch, path: &str, query: Option<&str>, headers: &HeaderMap) -> bool {
    let mut host = Arc::into_inner(host("h")).unwrap();
    host.routes.push(Arc::new(Route {
        name: "r".into(),
        matches: on,
        action: RouteAction::Direct {
            status: http::StatusCode::OK,
            body: bytes::Bytes::new(),
        },
        headers: HeaderOpsPair::default(),
        stat_prefix: None,
        operation: None,
        fault: None,
        cors: None,
        local_rate_limit: None,
        header_mutation: None,
        has_operators: false,
        origin: None,
    }));
    let facts = Facts {
        method: &Method::GET,
        authority: "h",
        scheme: "http",
        path,
        query,
        headers,
        connect: false,
    };
    route(&host, &facts).is_some()
}

#[test]
fn paths() {
    let none = HeaderMap::new();
    let prefix = |p: &str| on(PathMatch::Prefix(p.to_owned()));
    assert!(check(prefix("/api"), "/apix", None, &none));
    assert!(!check(prefix("/api"), "/ap", None, &none));
    let separated = |p: &str| on(PathMatch::SeparatedPrefix(p.to_owned()));
    assert!(check(separated("/api"), "/api", None, &none));
    assert!(check(separated("/api"), "/api/x", None, &none));
    assert!(!check(separated("/api"), "/apix", None, &none));
    let mut exact = on(PathMatch::Exact("/Items".to_owned()));
    exact.case_sensitive = false;
    assert!(check(exact, "/items", None, &none));
    assert!(!check(on(PathMatch::Exact("/Items".to_owned())), "/items", None, &none));
    assert!(!check(on(PathMatch::Connect), "/", None, &none));
    // A multi-byte character at the cut is no boundary, and no panic.
    let mut odd = prefix("/a");
    odd.case_sensitive = false;
    assert!(!check(odd, "/é", None, &none));
}

fn header(name: &'static str, matcher: ValueMatch, invert: bool, missing_is_empty: bool) -> RouteMatch {
    let mut m = on(PathMatch::Prefix("/".to_owned()));
    m.headers.push(HeaderMatch {
        name: HeaderKey::Name(HeaderName::from_static(name)),
        matcher,
        invert,
        missing_is_empty,
    });
    m
}

fn exact(value: &str) -> ValueMatch {
    ValueMatch::String(StringMatch {
        pattern: StringPattern::Exact(value.to_owned()),
        ignore_case: false,
    })
}

#[test]
fn headers_present_absent_and_inverted() {
    let none = HeaderMap::new();
    let mut some = HeaderMap::new();
    some.insert("end-user", HeaderValue::from_static("jason"));
    for (matcher, invert, empty, with, without) in [
        (exact("jason"), false, false, true, false),
        (exact("jason"), true, false, false, false),
        (exact("jason"), true, true, false, true),
        (exact("other"), true, false, true, false),
        (ValueMatch::Present(true), false, false, true, false),
        (ValueMatch::Present(true), true, false, false, true),
        (ValueMatch::Present(false), false, false, false, true),
    ] {
        let label = format!("{matcher:?} invert {invert} empty {empty}");
        let make = |matcher| header("end-user", matcher, invert, empty);
        let again = match &matcher {
            ValueMatch::String(s) => ValueMatch::String(s.clone()),
            ValueMatch::Present(p) => ValueMatch::Present(*p),
            ValueMatch::Range(a, b) => ValueMatch::Range(*a, *b),
        };
        assert_eq!(check(make(matcher), "/", None, &some), with, "{label}, with the header");
        assert_eq!(check(make(again), "/", None, &none), without, "{label}, without it");
    }
    some.append("end-user", HeaderValue::from_static("mary"));
    for (value, invert, matched) in [
        ("mary", false, true),
        ("jason,mary", false, false),
        ("mary", true, false),
    ] {
        let matcher = header("end-user", exact(value), invert, false);
        assert_eq!(
            check(matcher, "/", None, &some),
            matched,
            "one of two: {value}, {invert}"
        );
    }
}

#[test]
fn queries_and_ranges() {
    let none = HeaderMap::new();
    let mut m = on(PathMatch::Prefix("/".to_owned()));
    m.query.push(QueryMatch {
        name: "n".to_owned(),
        matcher: ValueMatch::Range(1, 10),
    });
    assert!(check(m, "/", Some("a=b&n=9"), &none));
    let mut m = on(PathMatch::Prefix("/".to_owned()));
    m.query.push(QueryMatch {
        name: "debug".to_owned(),
        matcher: ValueMatch::Present(true),
    });
    assert!(check(m, "/", Some("debug"), &none));
}

#[test]
fn prefixes_are_rewritten() {
    let prefix = PathMatch::Prefix("/api/".to_owned());
    assert_eq!(rewrite_prefix(&prefix, "/api/items", "/"), "/items");
    assert_eq!(rewrite_prefix(&PathMatch::Exact("/a".to_owned()), "/a", "/b"), "/b");
    let separated = PathMatch::SeparatedPrefix("/api".to_owned());
    assert_eq!(rewrite_prefix(&separated, "/api/x", "/v2"), "/v2/x");
}
