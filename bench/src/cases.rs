//! What is measured: each case is data.

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
}

/// A load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// Requests over kept connections, as fast as they are answered. `streams` at once on each, for HTTP/2.
    Saturate {
        connections: u32,
        streams: u32,
        body: u32,
        grpc: bool,
    },
    /// Requests at a fixed rate, whatever the answers do; latency counts from when a request was due.
    Rate { connections: u32, pace: Pace },
    /// One connection for each request, with its TLS handshake.
    Handshakes { connections: u32 },
    /// Bytes in one direction, then in the other, on one connection.
    Bulk,
    /// Short messages to and fro.
    RoundTrips { connections: u32 },
    /// Connections that carry nothing: only memory is read.
    Idle { connections: u32 },
}

/// How fast an open-loop load goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    PerSecond(u32),
    /// Share of what the same process gave under the first [`Load::Saturate`].
    OfCapacity(f64),
}

impl Load {
    /// Whether a quick run has it.
    pub(crate) const fn is_quick(&self) -> bool {
        match self {
            Self::Saturate {
                connections,
                streams,
                body,
                ..
            } => *connections * *streams == 64 && *body == USUAL,
            Self::Rate { pace, .. } => matches!(pace, Pace::PerSecond(_)),
            Self::Bulk | Self::RoundTrips { .. } => true,
            Self::Handshakes { .. } | Self::Idle { .. } => false,
        }
    }

    /// Short name for tables and the JSON file.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Saturate {
                connections,
                streams,
                body,
                grpc,
            } => {
                let mut name = format!("{connections} connections");
                if *streams > 1 {
                    name.push_str(&format!(" x {streams} streams"));
                }
                if *grpc {
                    name.push_str(", gRPC unary");
                } else if *body != 1024 {
                    name.push_str(&format!(", body {}", size(*body)));
                }
                name
            }
            Self::Rate { pace, .. } => match pace {
                Pace::PerSecond(rate) => format!("{rate}/s"),
                Pace::OfCapacity(share) => format!("{:.0} % of capacity", share * 100.0),
            },
            Self::Handshakes { connections } => format!("new TLS connections, {connections} at once"),
            Self::Bulk => "bulk (MiB per s)".to_owned(),
            Self::RoundTrips { connections } => format!("round trips, {connections} connections"),
            Self::Idle { connections } => format!("{connections} idle connections"),
        }
    }
}

fn size(bytes: u32) -> String {
    match bytes {
        0 => "0".to_owned(),
        b if b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

const fn http(connections: u32, body: u32) -> Load {
    Load::Saturate {
        connections,
        streams: 1,
        body,
        grpc: false,
    }
}

/// The 1 KiB answer that most loads ask for.
const USUAL: u32 = 1024;

const fn http2(connections: u32, streams: u32, grpc: bool) -> Load {
    Load::Saturate {
        connections,
        streams,
        body: USUAL,
        grpc,
    }
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

/// All cases, the most telling first.
pub(crate) fn all() -> Vec<Case> {
    let case = |name, title, hops, protocol, chain, loads| Case {
        name,
        title,
        hops,
        protocol,
        chain,
        loads,
        quick: matches!(name, "http1" | "http1-pair" | "http2" | "tcp-pair" | "sidecar-pair"),
    };
    let (one, pair, bare) = (Hops::One, Hops::Pair, Chain::Bare);
    let bodies = vec![http(64, 0), http(64, 64 << 10), http(16, 1 << 20)];
    let two = vec![http2(8, 8, false), http2(8, 8, true), http2(1, 1, true)];
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
            "A sidecar with 1,000 services",
            one,
            Protocol::Http1,
            Chain::Sidecar(1000),
            vec![http(64, USUAL)],
        ),
        case(
            "services-10000",
            "A sidecar with 10,000 services",
            one,
            Protocol::Http1,
            Chain::Sidecar(10_000),
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
    ]
}
