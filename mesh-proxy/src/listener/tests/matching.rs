use std::net::SocketAddr;

use crate::listener::{Facts, choose};
use crate::snapshot::{ChainMatch, FilterChain, Listener, SourceType, Terminal};
use crate::testing::{chain, listener, loopback};

fn facts(destination: &str, source: &str) -> Facts {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Facts::new(address(destination), address(source))
}

fn listener_of(chains: Vec<(&str, ChainMatch)>) -> Listener {
    let chains: Vec<FilterChain> = chains
        .into_iter()
        .map(|(name, matches)| chain(name, matches, Terminal::Close))
        .collect();
    listener("test", loopback(), chains)
}

fn chosen<'a>(listener: &'a Listener, facts: &Facts) -> &'a str {
    choose(listener, facts).map_or("none", |c| &*c.name)
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn alpn(transport: &str, protocols: &[&str]) -> ChainMatch {
    ChainMatch {
        destination_port: Some(8080),
        transport_protocol: transport.to_owned(),
        application_protocols: strings(protocols),
        ..ChainMatch::default()
    }
}

/// What reaches an inbound port, as the inspectors see it.
#[derive(Clone, Copy, Debug)]
enum Caller {
    /// A sidecar that speaks HTTP/1.1 or HTTP/2.
    MeshHttp,
    /// A sidecar that speaks TCP.
    MeshTcp,
    /// TLS of the application itself.
    OtherTls,
    PlainHttp,
    PlainHttp10,
    PlainTcp,
}

impl Caller {
    fn facts(self) -> Facts {
        let mut facts = facts("10.0.0.2:8080", "10.0.0.1:40000");
        let (tls, protocols): (bool, &[&str]) = match self {
            Caller::MeshHttp => (true, &["istio-http/1.1", "istio", "http/1.1"]),
            Caller::MeshTcp => (true, &["istio-peer-exchange", "istio"]),
            Caller::OtherTls => (true, &["h2", "http/1.1"]),
            Caller::PlainHttp => (false, &["http/1.1"]),
            Caller::PlainHttp10 => (false, &["http/1.0"]),
            Caller::PlainTcp => (false, &[]),
        };
        (facts.tls, facts.protocols) = (tls, strings(protocols));
        facts
    }
}

const MTLS_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MTLS_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];
const MTLS_ALL: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
const PLAIN_HTTP: [&str; 2] = ["http/1.1", "h2c"];

#[test]
fn inbound_ports_choose_as_istio_means_them_to() {
    use Caller::{MeshHttp, MeshTcp, OtherTls, PlainHttp, PlainHttp10, PlainTcp};
    let auto_permissive = listener_of(vec![
        ("mtls-http", alpn("tls", &MTLS_HTTP)),
        ("http", alpn("raw_buffer", &PLAIN_HTTP)),
        ("mtls-tcp", alpn("tls", &MTLS_TCP)),
        ("tcp", alpn("raw_buffer", &[])),
        ("passthrough", alpn("tls", &[])),
    ]);
    let auto_strict = listener_of(vec![
        ("mtls-http", alpn("tls", &MTLS_HTTP)),
        ("mtls-tcp", alpn("tls", &[])),
    ]);
    let auto_disable = listener_of(vec![
        ("http", alpn("raw_buffer", &PLAIN_HTTP)),
        ("tcp", alpn("raw_buffer", &[])),
    ]);
    let http_permissive = listener_of(vec![
        ("mtls-http", alpn("tls", &MTLS_ALL)),
        ("http", alpn("raw_buffer", &[])),
    ]);
    let http_strict = listener_of(vec![("mtls-http", alpn("tls", &[]))]);
    let http_disable = listener_of(vec![("http", alpn("raw_buffer", &[]))]);
    let tcp_permissive = listener_of(vec![
        ("mtls-tcp", alpn("tls", &MTLS_ALL)),
        ("passthrough", alpn("tls", &[])),
        ("tcp", alpn("raw_buffer", &[])),
    ]);
    let tcp_strict = listener_of(vec![("mtls-tcp", alpn("tls", &[]))]);
    let tcp_disable = listener_of(vec![("tcp", alpn("raw_buffer", &[]))]);

    let callers = [MeshHttp, MeshTcp, OtherTls, PlainHttp, PlainHttp10, PlainTcp];
    for (set, listener, expected) in [
        (
            "auto PERMISSIVE",
            &auto_permissive,
            ["mtls-http", "mtls-tcp", "passthrough", "http", "tcp", "tcp"],
        ),
        (
            "auto STRICT",
            &auto_strict,
            ["mtls-http", "mtls-tcp", "mtls-tcp", "none", "none", "none"],
        ),
        (
            "auto DISABLE",
            &auto_disable,
            ["none", "none", "none", "http", "tcp", "tcp"],
        ),
        (
            "HTTP PERMISSIVE",
            &http_permissive,
            ["mtls-http", "mtls-http", "none", "http", "http", "http"],
        ),
        (
            "HTTP STRICT",
            &http_strict,
            ["mtls-http", "mtls-http", "mtls-http", "none", "none", "none"],
        ),
        (
            "HTTP DISABLE",
            &http_disable,
            ["none", "none", "none", "http", "http", "http"],
        ),
        (
            "TCP PERMISSIVE",
            &tcp_permissive,
            ["mtls-tcp", "mtls-tcp", "passthrough", "tcp", "tcp", "tcp"],
        ),
        (
            "TCP STRICT",
            &tcp_strict,
            ["mtls-tcp", "mtls-tcp", "mtls-tcp", "none", "none", "none"],
        ),
        (
            "TCP DISABLE",
            &tcp_disable,
            ["none", "none", "none", "tcp", "tcp", "tcp"],
        ),
    ] {
        for (caller, expected) in callers.iter().zip(expected) {
            assert_eq!(chosen(listener, &caller.facts()), expected, "{set}, {caller:?}");
        }
    }
}

#[test]
fn a_port_with_chains_of_its_own_never_falls_back_to_those_without() {
    let on_port = |port, transport: &str| ChainMatch {
        destination_port: port,
        transport_protocol: transport.to_owned(),
        ..ChainMatch::default()
    };
    let mut listener = listener_of(vec![
        ("blackhole", on_port(Some(15006), "")),
        ("catch-all", on_port(None, "")),
        ("8080", on_port(Some(8080), "tls")),
    ]);
    assert_eq!(chosen(&listener, &facts("10.0.0.2:15006", "10.0.0.1:1")), "blackhole");
    assert_eq!(chosen(&listener, &facts("10.0.0.2:9999", "10.0.0.1:1")), "catch-all");
    assert_eq!(chosen(&listener, &facts("10.0.0.2:8080", "10.0.0.1:1")), "none");
    listener.default_chain = Some(chain("default", ChainMatch::default(), Terminal::Close).into());
    assert_eq!(chosen(&listener, &facts("10.0.0.2:8080", "10.0.0.1:1")), "default");
}

#[test]
fn the_longest_destination_prefix_wins() {
    let within = |ranges: &[&str]| ChainMatch {
        prefix_ranges: ranges.iter().map(|r| r.parse().expect("a range")).collect(),
        ..ChainMatch::default()
    };
    let listener = listener_of(vec![
        ("all", within(&[])),
        ("ten", within(&["10.0.0.0/8", "fd00::/8"])),
        ("one", within(&["10.96.0.10/32"])),
    ]);
    for (destination, expected) in [
        ("10.96.0.10:80", "one"),
        ("10.96.0.11:80", "ten"),
        ("[fd00::1]:80", "ten"),
        ("192.0.2.1:80", "all"),
        ("[2001:db8::1]:80", "all"),
    ] {
        assert_eq!(
            chosen(&listener, &facts(destination, "10.0.0.1:1")),
            expected,
            "{destination}"
        );
    }
}

#[test]
fn server_names_go_from_exact_to_the_longest_wildcard_to_none() {
    let named = |names: &[&str]| ChainMatch {
        server_names: strings(names),
        ..ChainMatch::default()
    };
    let listener = listener_of(vec![
        ("short", named(&["*.test", "other.example"])),
        ("long", named(&["*.shop.test"])),
        ("exact", named(&["web.shop.test"])),
        ("any", named(&[])),
    ]);
    for (name, expected) in [
        ("web.shop.test", "exact"),
        ("api.shop.test", "long"),
        ("deep.api.shop.test", "long"),
        ("shop.test", "short"),
        ("test", "any"),
        ("other.example", "short"),
        ("nobody.example", "any"),
        ("", "any"),
    ] {
        let mut facts = facts("10.0.0.2:443", "10.0.0.1:1");
        facts.sni = (!name.is_empty()).then(|| name.into());
        assert_eq!(chosen(&listener, &facts), expected, "{name:?}");
    }
}

#[test]
fn the_clients_order_of_protocols_decides() {
    let listener = listener_of(vec![("h1", alpn("tls", &["http/1.1"])), ("h2", alpn("tls", &["h2"]))]);
    let mut facts = facts("10.0.0.2:8080", "10.0.0.1:1");
    facts.tls = true;
    facts.protocols = strings(&["unknown", "http/1.1", "h2"]);
    assert_eq!(chosen(&listener, &facts), "h1");
    facts.protocols = strings(&["h2", "http/1.1"]);
    assert_eq!(chosen(&listener, &facts), "h2");
    facts.protocols.clear();
    assert_eq!(chosen(&listener, &facts), "none");
}

#[test]
fn sources_are_told_apart() {
    let listener = listener_of(vec![
        (
            "local",
            ChainMatch {
                source_type: SourceType::SameIpOrLoopback,
                ..ChainMatch::default()
            },
        ),
        (
            "neighbours",
            ChainMatch {
                source_prefix_ranges: vec!["10.1.0.0/16".parse().expect("a range")],
                ..ChainMatch::default()
            },
        ),
        (
            "neighbours' port 7",
            ChainMatch {
                source_prefix_ranges: vec!["10.1.0.0/16".parse().expect("a range")],
                source_ports: vec![7],
                ..ChainMatch::default()
            },
        ),
    ]);
    for (source, expected) in [
        ("127.0.0.1:1", "local"),
        ("10.0.0.2:1", "local"),
        ("10.1.2.3:1", "neighbours"),
        ("10.1.2.3:7", "neighbours' port 7"),
        ("10.2.0.1:7", "none"),
    ] {
        assert_eq!(chosen(&listener, &facts("10.0.0.2:80", source)), expected, "{source}");
    }
}
