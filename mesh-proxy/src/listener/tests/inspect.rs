use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncWriteExt as _, duplex};

use crate::listener::inspect::inspect;
use crate::listener::{Detected, Ended, Inspected, Sniffer};
use crate::testing::{alpn, common, soon};

/// The ClientHello that rustls sends.
fn client_hello(sni: &str, protocols: &[&str]) -> Vec<u8> {
    let parts = common(None, None);
    let tls = crate::testing::client_tls(parts, sni);
    let config = tls.config.clone().expect("ready");
    let name = sni.to_owned().try_into().expect("a name");
    let mut client = rustls::ClientConnection::new_with_alpn(config, name, alpn(protocols)).expect("client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("in memory");
    hello
}

fn finish(sniffer: Sniffer) -> Inspected {
    let Ok(inspected) = sniffer.finish() else {
        panic!("no PROXY protocol here");
    };
    inspected
}

/// Feeds one byte at a time; the result and how many bytes it took.
fn sniff(tls: bool, http: bool, bytes: &[u8]) -> (Option<Detected>, usize) {
    let mut sniffer = Sniffer::new(tls, http);
    for (i, byte) in bytes.iter().enumerate() {
        sniffer.feed(&[*byte]);
        if sniffer.decided() {
            let inspected = finish(sniffer);
            assert_eq!(inspected.bytes, bytes[..=i], "every byte is given back");
            return (Some(inspected.detected), i + 1);
        }
    }
    (None, bytes.len())
}

fn protocols(bytes: &[u8]) -> Option<Vec<String>> {
    sniff(true, true, bytes).0.map(|d| d.protocols)
}

#[test]
fn a_client_hello_tells_name_and_protocols() {
    let hello = client_hello("Catalog.Shop.test", &["istio-http/1.1", "h2"]);
    let (detected, read) = sniff(true, true, &hello);
    let detected = detected.expect("complete");
    assert!(detected.tls);
    assert_eq!(detected.sni.as_deref(), Some("catalog.shop.test"));
    assert_eq!(detected.protocols, ["istio-http/1.1", "h2"]);
    assert_eq!(read, hello.len());
}

#[test]
fn bytes_after_the_client_hello_stay_in_order() {
    let hello = client_hello("a.test", &[]);
    let mut all = hello;
    all.extend_from_slice(&[7; 9000]);
    let mut sniffer = Sniffer::new(true, false);
    sniffer.feed(&all);
    assert!(sniffer.decided());
    let inspected = finish(sniffer);
    assert_eq!(inspected.bytes, all, "for passthrough");
    let (_, rest) = inspected.hello.expect("TLS");
    assert!(all.ends_with(&rest), "for termination: what the acceptor has not read");
}

#[test]
fn http_is_known_by_its_first_line() {
    let expect = |bytes: &[u8], protocol: &str| {
        assert_eq!(
            protocols(bytes),
            Some(vec![protocol.to_owned()]),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    };
    expect(b"GET / HTTP/1.1\r\n", "http/1.1");
    expect(b"M-SEARCH * HTTP/1.1\n", "http/1.1");
    expect(b"\r\nPOST /a?b=%20c HTTP/1.0\r\nHost: x\r\n", "http/1.0");
    expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", "h2c");
    expect(b"PROPFIND /dav HTTP/1.1\r\n", "http/1.1");
}

#[test]
fn other_protocols_are_let_go_early() {
    for (bytes, after) in [
        (&b"\0\0\0\x01"[..], 1),
        (b"*1\r\n$4\r\nPING\r\n", 3),
        (b"EHLO mail.test\r\n", 15),
        (b"SSH-2.0-OpenSSH\r\n", 16),
        (b"GET / HTTP/9", 12),
        (b"GET  /", 5),
        (b"\x16\x02\x01", 2),
    ] {
        let (detected, read) = sniff(true, true, bytes);
        assert_eq!(detected, Some(Detected::default()), "{bytes:?}");
        assert_eq!(read, after, "{:?}", String::from_utf8_lossy(bytes));
    }
    let endless = vec![b'A'; 100];
    assert_eq!(sniff(true, true, &endless).1, 33, "no method is that long");
}

#[test]
fn a_load_balancers_header_comes_first_and_goes() {
    let mut sniffer = Sniffer::new(true, true).behind_load_balancer();
    sniffer.feed(b"PROXY TCP4 192.0.2.1 198.51.100.1 1234 443\r\nGET / HT");
    assert!(!sniffer.decided());
    sniffer.feed(b"TP/1.1\r\n");
    assert!(sniffer.decided());
    let inspected = finish(sniffer);
    assert_eq!(inspected.bytes, b"GET / HTTP/1.1\r\n"[..]);
    assert_eq!(inspected.detected.protocols, ["http/1.1"]);
    assert_eq!(
        inspected.addresses.map(|a| a.source.to_string()).as_deref(),
        Some("192.0.2.1:1234")
    );

    let mut sniffer = Sniffer::new(false, false).behind_load_balancer();
    sniffer.feed(b"GET / HTTP/1.1\r\n");
    assert!(sniffer.decided());
    assert!(
        matches!(sniffer.finish(), Err(Ended::Header(_))),
        "callers cannot do without"
    );
}

#[test]
fn only_the_inspectors_that_are_on_look() {
    let hello = client_hello("a.test", &["h2"]);
    let (detected, read) = sniff(false, true, &hello);
    assert_eq!((detected, read), (Some(Detected::default()), 1));
    assert_eq!(
        sniff(true, false, b"GET / HTTP/1.1\r\n"),
        (Some(Detected::default()), 1)
    );
}

#[test]
fn no_input_makes_it_panic_or_hold_without_bound() {
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let hello = client_hello("catalog.shop.test", &["h2", "http/1.1"]);
    let request = b"GET /some/path?with=query HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    for round in 0..4000 {
        let mut bytes = if round % 2 == 0 { hello.clone() } else { request.clone() };
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..3) {
                0 => bytes[at] = random.random(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.random()),
            }
        }
        let mut sniffer = Sniffer::new(true, true);
        for piece in bytes.chunks(random.random_range(1..200)) {
            sniffer.feed(piece);
            let _ = sniffer.decided();
        }
        assert_eq!(finish(sniffer).bytes, bytes);
    }
    for first in [&b"\x16\x03\x01\xff\xff\x01\0\xff\xff"[..], b"GET /"] {
        let mut sniffer = Sniffer::new(true, true);
        sniffer.feed(first);
        sniffer.feed(&vec![b'a'; 64 * 1024]);
        assert!(sniffer.decided(), "64 KiB are enough of {first:?}");
    }
}

#[tokio::test]
async fn the_time_limit_closes_or_goes_on() {
    for go_on in [true, false] {
        let (mut ours, mut theirs) = duplex(64);
        ours.write_all(b"GE").await.expect("in memory");
        let limit = Some(Duration::from_millis(20));
        let inspected = soon(
            "time limit",
            inspect(&mut theirs, Sniffer::new(true, true), limit, go_on),
        )
        .await;
        match inspected {
            Ok(inspected) => assert!(go_on && inspected.bytes == b"GE"[..]),
            Err(ended) => assert!(!go_on && ended == Ended::Timeout),
        }
    }
}

#[tokio::test]
async fn a_caller_that_ends_its_side_early_is_served_with_what_it_sent() {
    let (mut ours, mut theirs) = duplex(64);
    ours.write_all(b"GE").await.expect("in memory");
    drop(ours);
    let inspected = soon("end", inspect(&mut theirs, Sniffer::new(true, true), None, false)).await;
    assert!(inspected.is_ok_and(|i| i.bytes == b"GE"[..]));

    let (ours, mut theirs) = duplex(64);
    drop(ours);
    let inspected = soon("end", inspect(&mut theirs, Sniffer::new(true, true), None, false)).await;
    assert_eq!(inspected.err(), Some(Ended::Remote));
}
