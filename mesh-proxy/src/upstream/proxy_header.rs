//! The PROXY header in front of what a connection carries: whose connection it stands for
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, `ProxyProtocolUpstreamTransport`).

use std::net::{IpAddr, SocketAddr};

use crate::snapshot::ProxyVersion;

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the command PROXY.
const PROXY: u8 = 0x21;
/// Version 2, and the command LOCAL: the proxy speaks for itself.
const LOCAL: u8 = 0x20;

/// A caller and where it wanted to go.
pub type Proxied = (SocketAddr, SocketAddr);

/// The bytes of a header; without a caller one that says that there is none.
pub(super) fn encode(version: ProxyVersion, proxied: Option<Proxied>) -> Vec<u8> {
    let proxied = proxied.map(|(from, to)| same_family(from, to));
    match version {
        ProxyVersion::V1 => text(proxied).into_bytes(),
        ProxyVersion::V2 => binary(proxied),
    }
}

/// Both as IPv6 addresses if one of them is.
fn same_family(from: SocketAddr, to: SocketAddr) -> Proxied {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if from.is_ipv4() == to.is_ipv4() {
        (from, to)
    } else {
        (mapped(from), mapped(to))
    }
}

fn text(proxied: Option<Proxied>) -> String {
    let Some((from, to)) = proxied else {
        return "PROXY UNKNOWN\r\n".to_owned();
    };
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    let (source, destination) = (from.ip(), to.ip());
    format!(
        "PROXY {family} {source} {destination} {} {}\r\n",
        from.port(),
        to.port()
    )
}

fn binary(proxied: Option<Proxied>) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    let Some((from, to)) = proxied else {
        out.extend([LOCAL, 0, 0, 0]);
        return out;
    };
    let mut addresses = Vec::with_capacity(36);
    for address in [from, to] {
        match address.ip() {
            IpAddr::V4(ip) => addresses.extend(ip.octets()),
            IpAddr::V6(ip) => addresses.extend(ip.octets()),
        }
    }
    for address in [from, to] {
        addresses.extend(address.port().to_be_bytes());
    }
    // TCP over IPv4 or IPv6, and how many bytes follow.
    let (family, length) = if from.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
    out.extend([PROXY, family, 0, length]);
    out.extend(addresses);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(from: &str, to: &str) -> Proxied {
        (from.parse().expect("an address"), to.parse().expect("an address"))
    }

    #[test]
    fn text_names_both_ends() {
        let encode = |proxied| String::from_utf8(encode(ProxyVersion::V1, proxied)).expect("text");
        assert_eq!(
            encode(Some(pair("10.0.0.1:4000", "10.0.0.2:80"))),
            "PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\n"
        );
        assert_eq!(
            encode(Some(pair("10.0.0.1:4000", "[fd00::2]:80"))),
            "PROXY TCP6 ::ffff:10.0.0.1 fd00::2 4000 80\r\n"
        );
        assert_eq!(encode(None), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn bytes_name_both_ends() {
        let v4 = encode(ProxyVersion::V2, Some(pair("10.0.0.1:4000", "10.0.0.2:80")));
        assert_eq!(v4[..12], SIGNATURE);
        assert_eq!(
            v4[12..],
            [0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x0f, 0xa0, 0, 80]
        );
        let v6 = encode(ProxyVersion::V2, Some(pair("[fd00::1]:1", "[fd00::2]:2")));
        assert_eq!((v6[13], v6[15], v6.len()), (0x21, 36, 16 + 36));
        assert_eq!(encode(ProxyVersion::V2, None)[12..], [0x20, 0, 0, 0]);
    }
}
