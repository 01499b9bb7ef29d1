//! What is measured: each case is data.

mod loads;

pub(crate) use loads::{Load, Pace};
use loads::{USUAL, http, http2, messages};

/// One configuration of the proxies, and the loads that are run over it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Short name, for `--case` and the JSON file.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) title: &'static str,
    /// Proxies in a row.
    pub(crate) hops: Hops,
    /// What the client speaks, and the upstream.
    pub(crate) protocol: Protocol,
    /// What the proxy has to decide.
    pub(crate) chain: Chain,
    /// Run one after the other over the same processes.
    pub(crate) loads: Vec<Load>,
    /// Part of a quick run.
    pub(crate) quick: bool,
    /// Measured only once in a run, as it takes long or its figures hardly vary.
    pub(crate) once: bool,
}

/// Proxies in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hops {
    /// Plaintext in, plaintext out.
    One,
    /// Two proxies with mutual TLS between them, as between two sidecars.
    Pair,
}

/// What passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// HTTP/2 by prior knowledge on both sides.
    Http2,
    Tcp,
    /// The proxy ends TLS; HTTP/1.1 inside, plaintext to the upstream.
    Https,
}

/// How much the proxy has to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chain {
    /// One route to one cluster.
    Bare,
    /// So many virtual hosts; the load asks for one in the middle.
    Hosts(u32),
    /// What mesh-control compiles for a sidecar in a mesh of so many services, telemetry on; capture replaced by ports.
    Sidecar(u32),
    /// The same, with nothing in the bootstrap but where the control plane is, which pushes the rest (`push`).
    Pushed(u32),
}

/// The loads of HTTP/1.1: 64 connections first, whose capacity the open loop then takes half of.
fn usual() -> Vec<Load> {
    let paced = |pace| Load::Rate { connections: 64, pace };
    vec![
        http(64, USUAL),
        paced(Pace::PerSecond(1000)),
        paced(Pace::OfCapacity(0.5)),
        http(1, USUAL),
        http(1000, USUAL),
    ]
}

/// Rates up to most of what each can do, for the plot.
fn sweep() -> Vec<Load> {
    let shares = [0.05, 0.15, 0.3, 0.45, 0.6, 0.75];
    let paced = shares.map(|share| Load::Rate {
        connections: 64,
        pace: Pace::OfCapacity(share),
    });
    [http(64, USUAL)].into_iter().chain(paced).collect()
}

/// All cases, the most telling first.
pub(crate) fn all() -> Vec<Case> {
    let case = |name, title, hops, protocol, chain, loads| Case {
        name,
        title,
        hops,
        protocol,
        chain,
        loads,
        quick: matches!(
            name,
            "http1" | "http1-pair" | "http2" | "tcp-pair" | "sidecar" | "sidecar-pair"
        ),
        once: name.starts_with("rates") || matches!(name, "services-1000" | "services-10000" | "idle"),
    };
    let (one, pair, bare) = (Hops::One, Hops::Pair, Chain::Bare);
    let bodies = vec![http(64, 0), http(64, 64 << 10), http(16, 1 << 20)];
    let two = vec![
        http2(8, 8, false),
        Load::Rate {
            connections: 8,
            pace: Pace::PerSecond(1000),
        },
        Load::Rate {
            connections: 8,
            pace: Pace::OfCapacity(0.5),
        },
        http2(8, 8, true),
        http2(1, 1, true),
        messages(8, 8, 1),
        messages(1, 1, 64),
    ];
    let tcp = vec![
        Load::Bulk,
        Load::RoundTrips { connections: 1 },
        Load::RoundTrips { connections: 64 },
    ];
    vec![
        case("http1", "HTTP/1.1, one hop", one, Protocol::Http1, bare, usual()),
        case(
            "http1-pair",
            "HTTP/1.1, pair with mutual TLS",
            pair,
            Protocol::Http1,
            bare,
            usual(),
        ),
        case(
            "http2",
            "HTTP/2 and gRPC, one hop",
            one,
            Protocol::Http2,
            bare,
            two.clone(),
        ),
        case(
            "http2-pair",
            "HTTP/2 and gRPC, pair with mutual TLS",
            pair,
            Protocol::Http2,
            bare,
            two,
        ),
        case("tcp", "Opaque TCP, one hop", one, Protocol::Tcp, bare, tcp.clone()),
        case(
            "tcp-pair",
            "Opaque TCP, pair with mutual TLS",
            pair,
            Protocol::Tcp,
            bare,
            tcp,
        ),
        case(
            "tls",
            "New mutual-TLS connections, ended by the proxy",
            one,
            Protocol::Https,
            bare,
            vec![Load::Handshakes { connections: 16 }],
        ),
        case(
            "bodies",
            "HTTP/1.1 bodies, one hop",
            one,
            Protocol::Http1,
            bare,
            bodies.clone(),
        ),
        case(
            "bodies-pair",
            "HTTP/1.1 bodies, pair with mutual TLS",
            pair,
            Protocol::Http1,
            bare,
            bodies,
        ),
        case(
            "hosts",
            "HTTP/1.1, one hop, 1,000 virtual hosts",
            one,
            Protocol::Http1,
            Chain::Hosts(1000),
            vec![http(64, USUAL)],
        ),
        case(
            "sidecar",
            "A sidecar's chain (50 services), one hop",
            one,
            Protocol::Http1,
            Chain::Sidecar(50),
            usual(),
        ),
        case(
            "sidecar-pair",
            "Two sidecars' chains (50 services), mutual TLS",
            pair,
            Protocol::Http1,
            Chain::Sidecar(50),
            usual(),
        ),
        case(
            "services-1000",
            "A sidecar with 1,000 services pushed",
            one,
            Protocol::Http1,
            Chain::Pushed(1000),
            vec![http(64, USUAL)],
        ),
        case(
            "services-10000",
            "A sidecar with 10,000 services pushed",
            one,
            Protocol::Http1,
            Chain::Pushed(10_000),
            vec![http(64, USUAL)],
        ),
        case(
            "idle",
            "Memory of idle connections",
            one,
            Protocol::Http1,
            bare,
            vec![Load::Idle { connections: 1000 }],
        ),
        case(
            "rates",
            "Latency against rate, one hop",
            one,
            Protocol::Http1,
            bare,
            sweep(),
        ),
        case(
            "rates-pair",
            "Latency against rate, pair with mutual TLS",
            pair,
            Protocol::Http1,
            bare,
            sweep(),
        ),
    ]
}
