//! Connections: limits, reuse, and those that die.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::Version;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::harness::*;
use super::resilience::slow;
use crate::testing::{eventually, soon};

#[tokio::test]
async fn connections_are_used_again() {
    let origin = Origin::named("up").await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    for _ in 0..5 {
        let mut client = mesh.client(Version::HTTP_11).await;
        for _ in 0..5 {
            assert_eq!(client.get("/").await.body, "up");
        }
    }
    assert_eq!(origin.connections(), 1);

    let limited = protocol(json!({"explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"max_requests_per_connection": 2}}));
    let mesh = Mesh::to(&[origin.address], limited).await;
    let before = origin.connections();
    let mut client = mesh.client(Version::HTTP_11).await;
    for _ in 0..6 {
        assert_eq!(client.get("/").await.body, "up");
    }
    assert_eq!(origin.connections() - before, 3);
}

#[tokio::test]
async fn http2_requests_share_a_connection() {
    let origin = slow(Duration::from_millis(50)).await;
    let mesh = Mesh::to(&[origin.address], http2_upstream()).await;
    all_answered((0..20).map(|_| mesh.asking("/")).collect::<Vec<_>>()).await;
    assert_eq!(origin.connections(), 1);
}

/// Reads frames of HTTP/2 until one of this kind comes.
async fn until_frame(stream: &mut TcpStream, wanted: u8) {
    loop {
        let mut head = [0; 9];
        soon("a frame", stream.read_exact(&mut head)).await.expect("open");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        soon("its payload", stream.read_exact(&mut payload))
            .await
            .expect("open");
        if head[3] == wanted {
            return;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_answers_no_ping_is_left() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: u8 = 6;
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let options = protocol(json!({"explicit_http_config": {"http2_protocol_options": {
        "connection_keepalive": {"interval": "0.05s", "timeout": "0.05s"}}}}));
    let mesh = Mesh::to(&[socket.local_addr().expect("bound")], options).await;
    let asking = mesh.asking("/");
    let (mut stream, _) = soon("a connection", socket.accept()).await.expect("connected");
    let mut preface = [0; PREFACE.len()];
    soon("the preface", stream.read_exact(&mut preface))
        .await
        .expect("open");
    assert_eq!(preface, PREFACE);
    // Empty SETTINGS, and nothing else ever.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("open");
    until_frame(&mut stream, PING).await;
    assert_eq!(soon("an answer", asking).await.expect("a task").status, 503);
}

#[tokio::test]
async fn a_connection_that_names_its_caller_serves_nobody_else() {
    const BODY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let kind =
        "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    let raw = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let options = json!({"transport_socket": {"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": {
        "@type": kind, "config": {"version": "V1"},
        "transport_socket": {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": raw}}}}});
    let mesh = Mesh::to(&[socket.local_addr().expect("bound")], options).await;
    let mut headers = Vec::new();
    for _ in 0..2 {
        let mut client = mesh.client(Version::HTTP_11).await;
        let answers = tokio::spawn(async move { (client.get("/").await.status, client.get("/").await.status) });
        let (stream, _) = soon("a connection", socket.accept()).await.expect("connected");
        let mut stream = BufReader::new(stream);
        let mut header = String::new();
        soon("its header", stream.read_line(&mut header)).await.expect("open");
        headers.push(header);
        // Both requests of one caller come on its connection.
        for _ in 0..2 {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                soon("a request", stream.read_line(&mut line)).await.expect("open");
            }
            stream.write_all(BODY).await.expect("open");
        }
        let (one, two) = soon("answers", answers).await.expect("a task");
        assert_eq!((one, two), (200, 200));
    }
    let port = |header: &String| header.split(' ').nth(4).map(str::to_owned);
    assert!(
        headers.iter().all(|h| h.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 ")),
        "{headers:?}"
    );
    assert_ne!(port(&headers[0]), port(&headers[1]));
}

#[tokio::test]
async fn idle_connections_are_let_go() {
    let origin = Origin::named("up").await;
    let extra = protocol(json!({"explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": "0.1s"}}));
    let mesh = Mesh::to(&[origin.address], extra).await;
    assert_eq!(mesh.get("/").await.body, "up");
    eventually("the connection is closed", || {
        mesh.gauge("cluster.up.upstream_cx_active") == 0
    })
    .await;
}

/// Answers one request on each connection, and closes it upon the second.
async fn closing(answer: &'static [u8]) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                for first in [true, false] {
                    let mut all = Vec::new();
                    while !all.windows(4).any(|w| w == b"\r\n\r\n") {
                        match stream.read(&mut buffer).await {
                            Ok(n) if n > 0 => all.extend_from_slice(&buffer[..n]),
                            _ => return,
                        }
                    }
                    counted.fetch_add(1, Relaxed);
                    if !first || stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

#[tokio::test]
async fn a_dead_connection_is_replaced_unless_that_could_act_twice() {
    let (address, requests) = closing(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let mesh = Mesh::to(&[address], json!({})).await;
    let mut client = mesh.client(Version::HTTP_11).await;
    for _ in 0..5 {
        let seen = client.get("/").await;
        assert_eq!((seen.status, seen.body.as_str()), (200, "ok"));
    }
    let before = requests.load(Relaxed);
    // This one is on a connection that has been used.
    let seen = client.seen(post("/", "act")).await;
    assert_eq!(seen.status, 503);
    assert!(seen.body.ends_with("connection termination"), "{}", seen.body);
    assert_eq!(requests.load(Relaxed) - before, 1, "a POST is not made twice");
    // Nor one without a body.
    assert_eq!(client.get("/").await.status, 200);
    let before = requests.load(Relaxed);
    assert_eq!(client.seen(post("/", "")).await.status, 503);
    assert_eq!(requests.load(Relaxed) - before, 1);
}

#[tokio::test]
async fn a_connection_that_is_closed_while_idle_costs_nothing() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            // Closed without a word.
        }
    });
    let mesh = Mesh::to(&[address], json!({})).await;
    let mut client = mesh.client(Version::HTTP_11).await;
    for _ in 0..20 {
        assert_eq!(client.seen(post("/", "act")).await.status, 200);
        eventually("the end is seen", || mesh.gauge("cluster.up.upstream_cx_active") == 0).await;
    }
}

#[tokio::test]
async fn garbage_from_an_upstream() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let (address, _) = raw_origin(garbage).await;
        let mesh = Mesh::to(&[address], json!({})).await;
        let mut client = mesh.client(Version::HTTP_11).await;
        let seen = client.get("/").await;
        assert_eq!(seen.status, 502, "{:?}: {seen:?}", String::from_utf8_lossy(garbage));
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_ended_well() {
    let (address, _) = closing(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").await;
    let mesh = Mesh::to(&[address], json!({})).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = mesh.client(version).await;
        let mut response = client.send(get("/")).await.expect("a head");
        assert_eq!(response.status(), 200);
        let mut ended = None;
        // The origin waits for a second request; the caller's patience ends it.
        while let Ok(frame) = tokio::time::timeout(Duration::from_millis(300), response.body_mut().frame()).await {
            match frame {
                Some(Ok(_)) => {}
                other => {
                    ended = Some(other.is_some());
                    break;
                }
            }
        }
        assert_ne!(
            ended,
            Some(false),
            "{version:?}: a body that is cut short must not look whole"
        );
    }
}

#[tokio::test]
async fn callers_that_go_away_leave_nothing_behind() {
    let origin = slow(Duration::from_secs(60)).await;
    let versions = [Version::HTTP_11, Version::HTTP_2];
    let upstreams = || [json!({}), http2_upstream()];
    for (version, extra) in versions.into_iter().flat_map(|v| upstreams().map(|u| (v, u))) {
        let mesh = Mesh::to(&[origin.address], extra).await;
        let mut client = mesh.client(version).await;
        let pending = tokio::time::timeout(Duration::from_millis(100), client.get("/")).await;
        assert!(pending.is_err());
        drop(client);
        eventually("the request is gone", || {
            mesh.gauge("cluster.up.upstream_rq_active") == 0
        })
        .await;
        eventually("the books are closed", || {
            mesh.http_counter("downstream_rq_rx_reset") == 1
        })
        .await;
        eventually("the connection is known to have ended", || {
            mesh.http_counter("downstream_cx_destroy_remote") == 1
        })
        .await;
    }
}

#[tokio::test]
async fn callers_that_close_their_side_wait_for_nothing() {
    let origin = slow(Duration::from_secs(60)).await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    for part in ["Content-Length: 0\r\n\r\n", "Content-Length: 9\r\n\r\npart"] {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{part}");
        assert_eq!(raw(mesh.address, request.as_bytes(), true).await, "");
    }
    eventually("the requests are gone", || {
        mesh.gauge("cluster.up.upstream_rq_active") == 0 && mesh.http_counter("downstream_cx_destroy") == 2
    })
    .await;
    for name in ["downstream_rq_rx_reset", "downstream_cx_destroy_remote_active_rq"] {
        assert_eq!(mesh.http_counter(name), 2, "{name}");
    }
    assert_eq!(mesh.http_counter("downstream_rq_completed"), 0);
}

#[tokio::test]
async fn idle_callers_are_let_go() {
    let origin = Origin::named("up").await;
    let options = Options {
        manager: json!({"common_http_protocol_options": {"idle_timeout": "0.1s"}}),
        ..Options::default()
    };
    let mesh = Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut stream = TcpStream::connect(mesh.address).await.expect("connect");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .expect("write");
    let mut all = String::new();
    soon("the end", stream.read_to_string(&mut all)).await.expect("read");
    assert!(all.ends_with("up"), "{all}");
    assert_eq!(mesh.http_counter("downstream_cx_idle_timeout"), 1);
}
