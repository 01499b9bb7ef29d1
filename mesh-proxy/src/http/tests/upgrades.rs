//! WebSocket, other tokens, CONNECT.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::*;
use crate::testing::soon;

/// Agrees to any upgrade and to CONNECT, and echoes.
async fn upgrading() -> Origin {
    Origin::start(|mut request: Request<hyper::body::Incoming>| async move {
        let extended = request.extensions().get::<hyper::ext::Protocol>().is_some();
        let connect = *request.method() == Method::CONNECT;
        let Some(token) = request.headers().get("upgrade").cloned().or(None) else {
            if connect {
                let on = hyper::upgrade::on(&mut request);
                tokio::spawn(echo(on));
                let mut response = Response::new(full(""));
                if extended {
                    response.headers_mut().insert("extended", "1".parse().expect("a value"));
                }
                return response;
            }
            return Response::new(full(format!("plain {:?}", request.headers().get("connection"))));
        };
        let on = hyper::upgrade::on(&mut request);
        tokio::spawn(echo(on));
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", token);
        response
            .headers_mut()
            .insert("connection", "Upgrade".parse().expect("a value"));
        response
    })
    .await
}

async fn echo(on: hyper::upgrade::OnUpgrade) {
    if let Ok(upgraded) = on.await {
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    }
}

fn options() -> Options {
    Options {
        manager: json!({"upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]}),
        ..Options::default()
    }
}

/// A proxy that lets upgrades through; `extra` is merged into the cluster.
async fn mesh(origin: &Origin, extra: serde_json::Value) -> Mesh {
    Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], extra)], options()).await
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if soon("a response", stream.read(&mut byte)).await.expect("read") == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[tokio::test]
async fn websockets_pass_with_early_bytes_and_half_close() {
    let origin = upgrading().await;
    let mesh = mesh(&origin, json!({})).await;
    let mut stream = TcpStream::connect(mesh.address).await.expect("connect");
    stream
        .write_all(format!("{WEBSOCKET}early").as_bytes())
        .await
        .expect("write");
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("upgrade: websocket"), "{answer}");
    stream.write_all(b" and late").await.expect("write");
    stream.shutdown().await.expect("shutdown");
    let mut rest = String::new();
    soon("the echo", stream.read_to_string(&mut rest)).await.expect("read");
    assert_eq!(rest, "early and late");
    assert_eq!(mesh.http_counter("downstream_cx_upgrades_total"), 1);
}

#[tokio::test]
async fn websockets_pass_to_http2_upstreams() {
    let origin = upgrading().await;
    let mesh = mesh(&origin, http2_upstream()).await;
    // The upstream's settings say whether it knows extended CONNECT; they have come when a request has been answered.
    assert_eq!(
        Client::connect(mesh.address, Version::HTTP_11)
            .await
            .get("/")
            .await
            .status,
        200
    );
    let mut stream = TcpStream::connect(mesh.address).await.expect("connect");
    stream.write_all(WEBSOCKET.as_bytes()).await.expect("write");
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer}"
    );
    stream.write_all(b"hello").await.expect("write");
    let mut five = [0; 5];
    soon("the echo", stream.read_exact(&mut five)).await.expect("read");
    assert_eq!(&five, b"hello");
}

#[tokio::test]
async fn websockets_by_http2() {
    let origin = upgrading().await;
    for extra in [json!({}), http2_upstream()] {
        let mesh = mesh(&origin, extra).await;
        let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
        assert_eq!(client.get("/").await.status, 200);
        let mut request = get("/ws");
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(hyper::ext::Protocol::from("websocket"));
        let mut response = client.send(request).await.expect("a response");
        assert_eq!(response.status(), 200);
        let upgraded = soon("the upgrade", hyper::upgrade::on(&mut response))
            .await
            .expect("upgraded");
        let mut stream = TokioIo::new(upgraded);
        stream.write_all(b"hello").await.expect("write");
        let mut five = [0; 5];
        soon("the echo", stream.read_exact(&mut five)).await.expect("read");
        assert_eq!(&five, b"hello");
    }
}

#[tokio::test]
async fn unknown_tokens_are_passed_as_plain_requests() {
    let origin = upgrading().await;
    let mesh = mesh(&origin, json!({})).await;
    let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let answer = raw(mesh.address, request.as_bytes(), false).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("plain None"), "{answer}");
}

#[tokio::test]
async fn connect_is_passed_on_where_a_route_takes_it() {
    let origin = upgrading().await;
    let routes = json!([{"match": {"connect_matcher": {}}, "route": {"cluster": "up"}}]);
    for extra in [json!({}), http2_upstream()] {
        let mesh = Mesh::start(routes.clone(), vec![cluster("up", &[origin.address], extra)], options()).await;
        let mut stream = TcpStream::connect(mesh.address).await.expect("connect");
        stream
            .write_all(b"CONNECT db.local:5432 HTTP/1.1\r\nHost: db.local:5432\r\n\r\n")
            .await
            .expect("write");
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        stream.write_all(b"bytes").await.expect("write");
        let mut five = [0; 5];
        soon("the echo", stream.read_exact(&mut five)).await.expect("read");
        assert_eq!(&five, b"bytes");
    }
}

#[tokio::test]
async fn connect_without_a_route_for_it_is_refused() {
    let origin = upgrading().await;
    let mesh = mesh(&origin, json!({})).await;
    let answer = raw(
        mesh.address,
        // What follows is for the tunnel, and no request when there is none.
        b"CONNECT db.local:5432 HTTP/1.1\r\nHost: db.local:5432\r\n\r\nGET /hidden HTTP/1.1\r\nHost: h\r\n\r\n",
        false,
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn idle_tunnels_end() {
    let origin = upgrading().await;
    let mut options = options();
    options.manager["stream_idle_timeout"] = json!("0.2s");
    let mesh = Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut stream = TcpStream::connect(mesh.address).await.expect("connect");
    stream.write_all(WEBSOCKET.as_bytes()).await.expect("write");
    head(&mut stream).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"x").await.expect("write");
        let mut one = [0; 1];
        soon("the echo", stream.read_exact(&mut one))
            .await
            .expect("activity keeps it open");
    }
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest)).await.ok();
    assert!(rest.is_empty());
}
