//! The PROXY protocol, versions 1 and 2: a load balancer in front says who the caller is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How version 2 starts.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// How version 1 starts.
const TEXT: &[u8] = b"PROXY ";
/// Longest line of version 1, by its specification.
const LONGEST_LINE: usize = 107;
/// Longest header of version 2 that is taken: addresses with a few extensions.
const LONGEST: usize = 4096;

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// More bytes are needed.
    More,
    /// No header, or a broken one.
    Bad(&'static str),
    /// A header of this many bytes.
    Complete(usize, Option<Addresses>),
}

/// Ends of the connection that the load balancer stands for; it names none for its own health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// Reads a header of either version.
pub(super) fn parse(bytes: &[u8]) -> Header {
    let starts = |with: &[u8]| {
        let seen = bytes.len().min(with.len());
        bytes[..seen] == with[..seen]
    };
    if starts(SIGNATURE) {
        parse_binary(bytes)
    } else if starts(TEXT) {
        parse_text(bytes)
    } else {
        Header::Bad("no PROXY protocol header; does the load balancer send one?")
    }
}

fn parse_text(bytes: &[u8]) -> Header {
    let Some(end) = bytes.iter().take(LONGEST_LINE).position(|b| *b == b'\n') else {
        return if bytes.len() < LONGEST_LINE {
            Header::More
        } else {
            Header::Bad("PROXY protocol line without end")
        };
    };
    let length = end + 1;
    let line = std::str::from_utf8(&bytes[..length])
        .ok()
        .and_then(|l| l.strip_suffix("\r\n"));
    let Some(line) = line else {
        return Header::Bad("PROXY protocol line is no text or has no CR LF");
    };
    let words: Vec<&str> = line.split(' ').collect();
    if let ["PROXY", "UNKNOWN", ..] = words.as_slice() {
        return Header::Complete(length, None);
    }
    let ["PROXY", family, source, destination, source_port, destination_port] = words.as_slice() else {
        return Header::Bad("PROXY protocol line has not six words");
    };
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().ok()?;
        let fits = ip.is_ipv4() == (*family == "TCP4") && matches!(*family, "TCP4" | "TCP6");
        fits.then_some(SocketAddr::new(ip, port.parse().ok()?))
    };
    match (address(source, source_port), address(destination, destination_port)) {
        (Some(source), Some(destination)) => Header::Complete(length, Some(Addresses { source, destination })),
        _ => Header::Bad("PROXY protocol line with an address that is none"),
    }
}

fn parse_binary(bytes: &[u8]) -> Header {
    let Some([version_command, family, high, low]) = bytes.get(12..16) else {
        return Header::More;
    };
    let length = 16 + usize::from(u16::from_be_bytes([*high, *low]));
    if version_command >> 4 != 2 {
        return Header::Bad("PROXY protocol version that is not 2");
    }
    if length > LONGEST {
        return Header::Bad("PROXY protocol header of more than 4 KiB");
    }
    let Some(body) = bytes.get(16..length) else {
        return Header::More;
    };
    match (version_command & 0x0f, family) {
        (0, _) => Header::Complete(length, None),
        (1, 0x11) => addresses::<4>(body, length, |ip| Ipv4Addr::from(ip).into()),
        (1, 0x21) => addresses::<16>(body, length, |ip| Ipv6Addr::from(ip).into()),
        // Unspecified and local sockets: the connection is taken as it came.
        (1, 0x00 | 0x31 | 0x32) => Header::Complete(length, None),
        (1, _) => Header::Bad("PROXY protocol header for something else than TCP"),
        _ => Header::Bad("PROXY protocol command that is unknown"),
    }
}

fn addresses<const N: usize>(body: &[u8], length: usize, ip: fn([u8; N]) -> IpAddr) -> Header {
    let at = |from: usize, port: usize| {
        let bytes: [u8; N] = body.get(from..from + N)?.try_into().ok()?;
        let port: [u8; 2] = body.get(port..port + 2)?.try_into().ok()?;
        Some(SocketAddr::new(ip(bytes), u16::from_be_bytes(port)))
    };
    match (at(0, 2 * N), at(N, 2 * N + 2)) {
        (Some(source), Some(destination)) => Header::Complete(length, Some(Addresses { source, destination })),
        _ => Header::Bad("PROXY protocol header too short for its addresses"),
    }
}
