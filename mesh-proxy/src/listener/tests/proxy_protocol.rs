use crate::listener::proxy_protocol::{Addresses, Header, parse};

fn ends(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
    })
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn both_versions_name_the_caller() {
    let four = ends("192.0.2.1:1234", "198.51.100.1:443");
    let six = ends("[2001:db8::1]:1234", "[2001:db8::2]:443");
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 1234 443\r\n".to_vec();
    let line_six = b"PROXY TCP6 2001:db8::1 2001:db8::2 1234 443\r\n".to_vec();
    let body = [192, 0, 2, 1, 198, 51, 100, 1, 4, 210, 1, 187];
    // With an extension behind the addresses.
    let with_extension = binary(1, 0x11, &[&body[..], &[0x04, 0, 1, 9]].concat());
    let mut body_six = Vec::new();
    body_six.extend(
        "2001:db8::1"
            .parse::<std::net::Ipv6Addr>()
            .expect("an address")
            .octets(),
    );
    body_six.extend(
        "2001:db8::2"
            .parse::<std::net::Ipv6Addr>()
            .expect("an address")
            .octets(),
    );
    body_six.extend([4, 210, 1, 187]);
    for (header, expected) in [
        (line, four),
        (line_six, six),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
        (binary(1, 0x11, &body), four),
        (with_extension, four),
        (binary(1, 0x21, &body_six), six),
        (binary(0, 0x00, &[]), None),
    ] {
        let complete = Header::Complete(header.len(), expected);
        assert_eq!(parse(&header), complete);
        assert_eq!(
            parse(&[&header[..], b"GET /"].concat()),
            complete,
            "what follows is not the header's"
        );
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Header::More, "{end} of {header:?}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    for bad in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1234\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1234 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1234 70000\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1234 443\n",
        b"PROXY \xff\r\n",
        &long,
        &binary(1, 0x11, &[1, 2, 3]),
        &binary(1, 0x12, &[0; 12]),
        &binary(5, 0x11, &[0; 12]),
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        assert!(matches!(parse(bad), Header::Bad(_)), "{bad:?}");
    }
}
