//! Requests whose end could be read in two ways are refused, or forwarded in one way on a connection that then ends.

use std::fmt::Write as _;

use http::Version;
use serde_json::json;

use super::harness::*;

/// A second request that an attacker hides in the body of the first.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn ambiguous_framing_never_reaches_the_upstream_as_two_requests() {
    let long = "x".repeat(70_000);
    let table = [
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\n{HIDDEN}"),
        ),
        (
            "a list of lengths",
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 36\r\n\r\n{HIDDEN}"),
        ),
        (
            "a signed length",
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +0\r\n\r\n{HIDDEN}"),
        ),
        (
            "a negative length",
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n{HIDDEN}"),
        ),
        (
            "a length past 64 bits",
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n{HIDDEN}"),
        ),
        (
            "length and chunked",
            format!(
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 36\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "chunked and length",
            format!(
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "chunked is not last",
            format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "an unknown coding",
            format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "chunked with a tab",
            format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "chunked in HTTP/1.0",
            format!("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "a space before the colon",
            format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "a folded header",
            format!("POST / HTTP/1.1\r\nHost: h\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "a folded coding",
            format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "a bad chunk size",
            format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n{HIDDEN}"),
        ),
        (
            "a huge chunk size",
            format!(
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "a negative chunk size",
            format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n{HIDDEN}"),
        ),
        (
            "a chunk without its end",
            format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "two hosts",
            format!("GET / HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n{HIDDEN}"),
        ),
        ("no host", format!("GET / HTTP/1.1\r\n\r\n{HIDDEN}")),
        (
            "a control character",
            format!("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n{HIDDEN}"),
        ),
        (
            "a bare CR",
            format!("GET / HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 36\r\n\r\n{HIDDEN}"),
        ),
        (
            "a header without a name",
            format!("GET / HTTP/1.1\r\nHost: h\r\n: a\r\n\r\n{HIDDEN}"),
        ),
        (
            "a long header",
            format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n{HIDDEN}"),
        ),
        ("not HTTP", format!("\x16\x03\x01\x02\0\r\n\r\n{HIDDEN}")),
    ];
    for (what, bytes) in table {
        let origin = Origin::echo().await;
        let mesh = Mesh::to(&[origin.address], json!({})).await;
        let answer = raw(mesh.address, bytes.as_bytes(), false).await;
        // The connection ended (`raw` reads to its end), and the hidden request was never seen as one.
        assert!(!answer.contains("/hidden"), "{what}: {answer}");
        assert!(answer.matches("HTTP/1.").count() <= 2, "{what}: {answer}");
        assert!(origin.requests() <= 1, "{what}");
        if origin.requests() == 1 && answer.starts_with("HTTP/1.1 200") {
            // Read in one way, it was forwarded in that way.
            assert!(what.contains("chunked"), "{what}: {answer}");
            assert!(
                !answer.contains("content-length: 36") && !answer.contains("content-length: 5"),
                "{what}: {answer}"
            );
            assert!(
                answer.to_ascii_lowercase().contains("connection: close"),
                "{what}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn headers_past_the_limit() {
    let origin = Origin::named("up").await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(61 * 1024));
    let answer = raw(mesh.address, long.as_bytes(), false).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut many = "GET / HTTP/1.1\r\nHost: h\r\n".to_owned();
    for i in 0..200 {
        let _ = write!(many, "x-{i}: 1\r\n");
    }
    let answer = raw(mesh.address, format!("{many}\r\n").as_bytes(), false).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn absolute_targets_name_the_host() {
    let origin = Origin::echo().await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let request = "GET http://real.local/x?y HTTP/1.1\r\nHost: false.local\r\nConnection: close\r\n\r\n";
    let answer = raw(mesh.address, request.as_bytes(), false).await;
    assert!(answer.contains("GET /x?y HTTP/1.1\n"), "{answer}");
    assert!(answer.contains("\nhost: real.local\n"), "{answer}");
}

#[tokio::test]
async fn http2_cannot_bring_in_what_http1_would_read_otherwise() {
    let origin = Origin::echo().await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
    let mut request = post("/", "12345");
    request
        .headers_mut()
        .insert("content-length", "5".parse().expect("a value"));
    request
        .headers_mut()
        .insert("host", "other.local".parse().expect("a value"));
    let seen = client.seen(request).await;
    assert_eq!(seen.echoed("host"), "test.local", "{seen:?}");
    let mut request = post("/", "12345");
    request
        .headers_mut()
        .insert("content-length", "3".parse().expect("a value"));
    // Refused by one of the two codecs, and not forwarded as something else.
    let answer = client.send(request).await;
    if let Ok(response) = answer {
        assert_ne!(response.status(), 200);
    }
    assert_eq!(
        Client::connect(mesh.address, Version::HTTP_2)
            .await
            .get("/")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn garbage_does_not_hurt() {
    let origin = Origin::named("up").await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seeds: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /a?b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01h",
        b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
    ];
    for round in 0..200 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..=next() % 6 {
            let at = usize::try_from(next()).unwrap_or_default() % bytes.len();
            match next() % 3 {
                0 => bytes[at] = u8::try_from(next() & 0xff).unwrap_or_default(),
                1 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, u8::try_from(next() & 0xff).unwrap_or_default()),
            }
        }
        raw(mesh.address, &bytes, true).await;
    }
    // Whatever became of those, the next caller is served.
    assert_eq!(
        Client::connect(mesh.address, Version::HTTP_11)
            .await
            .get("/")
            .await
            .body,
        "up"
    );
}
