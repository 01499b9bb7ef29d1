//! Loads, and their names.

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
    /// gRPC streams that stay open: each sends a message, and another when one has come back. `window` are under way.
    Messages {
        connections: u32,
        streams: u32,
        window: u32,
    },
    /// One connection for each request, with its TLS handshake.
    Handshakes { connections: u32 },
    /// Bytes in one direction, then in the other, on one connection.
    Bulk,
    /// Short messages to and fro.
    RoundTrips { connections: u32 },
    /// Connections that had one request each and are kept: only memory is read.
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
            Self::Messages { streams, .. } => *streams > 1,
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
            Self::Messages {
                connections,
                streams,
                window,
            } => format!("gRPC streams, {connections} x {streams}, {window} under way on each"),
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

pub(super) const fn http(connections: u32, body: u32) -> Load {
    Load::Saturate {
        connections,
        streams: 1,
        body,
        grpc: false,
    }
}

/// The 1 KiB answer that most loads ask for.
pub(super) const USUAL: u32 = 1024;

pub(super) const fn http2(connections: u32, streams: u32, grpc: bool) -> Load {
    Load::Saturate {
        connections,
        streams,
        body: USUAL,
        grpc,
    }
}

pub(super) const fn messages(connections: u32, streams: u32, window: u32) -> Load {
    Load::Messages {
        connections,
        streams,
        window,
    }
}
