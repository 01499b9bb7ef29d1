//! Floods of HTTP/2 frames that cost the sender little: the connection ends, or its caller has to wait, and others are
//! served.

use std::net::SocketAddr;
use std::time::Duration;

use http::Version;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::*;
use crate::testing::soon;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u8 = 11;

/// `GET http://h/` by the static table of HPACK.
const REQUEST: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'h'];

/// No flood gets to send this much.
const MOST: usize = 64 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let opening = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&opening).await.expect("write");
    stream
}

/// Sends what `next` makes until the proxy ends the connection; the bytes sent, and the error code of its GOAWAY.
async fn until_closed(address: SocketAddr, mut next: impl FnMut(u32) -> Vec<u8>) -> (usize, Option<u8>) {
    let (mut from, mut to) = open(address).await.into_split();
    let heard = tokio::spawn(async move {
        let mut all = Vec::new();
        // An error is as good as an end.
        let _ = from.read_to_end(&mut all).await;
        all
    });
    let mut sent = 0;
    for round in 0.. {
        let bytes = next(round);
        if sent >= MOST || to.write_all(&bytes).await.is_err() {
            break;
        }
        sent += bytes.len();
    }
    drop(to);
    let heard = soon("the connection to end", heard).await.expect("no panic");
    let mut rest = &heard[..];
    let mut code = None;
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if head[3] == GOAWAY {
            code = after.get(7).copied();
        }
        rest = after.get(length..).unwrap_or_default();
    }
    (sent, code)
}

async fn others_are_served(mesh: &Mesh) {
    let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
    assert_eq!(client.get("/").await.body, "up");
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let origin = Origin::named("up").await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let (sent, code) = until_closed(mesh.address, |round| {
        let streams = (0..100).map(|i| (round * 100 + i) * 2 + 1);
        streams
            .flat_map(|stream| {
                let mut pair = frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST);
                pair.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
                pair
            })
            .collect()
    })
    .await;
    assert!(sent < MOST, "a flood of resets was let through");
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "GOAWAY with {code:?}");
    others_are_served(&mesh).await;
}

#[tokio::test]
async fn heads_without_an_end_end_the_connection() {
    // A small header each (which fills the list of headers), and empty ones (which fill nothing).
    for payload in [&b"\x00\x01a\x01b"[..], b""] {
        let origin = Origin::named("up").await;
        let mesh = Mesh::to(&[origin.address], json!({})).await;
        let (sent, _) = until_closed(mesh.address, |round| {
            if round == 0 {
                return frame(HEADERS, END_STREAM, 1, REQUEST);
            }
            frame(CONTINUATION, 0, 1, payload).repeat(100)
        })
        .await;
        assert!(sent < MOST, "an endless head was let through, {payload:?}");
        assert_eq!(origin.requests(), 0);
        others_are_served(&mesh).await;
    }
}

/// Both ask for an answer, and the caller reads none.
#[tokio::test]
async fn who_reads_no_answers_cannot_ask_for_more() {
    for asking in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let origin = Origin::named("up").await;
        let mesh = Mesh::to(&[origin.address], json!({})).await;
        let mut stream = open(mesh.address).await;
        let many = asking.repeat(1000);
        let mut sent = 0;
        // The proxy stops reading when its answers do not get away, or ends the connection.
        while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&many)).await {
            sent += many.len();
            assert!(sent < MOST, "answers are kept without a limit");
        }
        others_are_served(&mesh).await;
    }
}
