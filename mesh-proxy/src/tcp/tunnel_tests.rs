//! Connections that go through a proxy on the way, or say first whose they are.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::tests::{connect, proxy_to};
use crate::snapshot::{ProxyVersion, TcpProxy, Terminal, Transport};
use crate::testing::{cluster, soon, tcp_to};

async fn upstream() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

async fn accept(socket: &TcpListener) -> TcpStream {
    soon("accept", socket.accept()).await.expect("connected").0
}

async fn exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    soon("bytes", stream.read_exact(&mut bytes)).await.expect("open");
    bytes
}

#[tokio::test]
async fn a_tunnel_is_asked_for_and_then_carries_the_bytes() {
    const ASKED: &[u8] = b"CONNECT far.example.com:443 HTTP/1.1\r\nHost: far.example.com:443\r\n\r\n";
    let (socket, address) = upstream().await;
    let terminal = || {
        Terminal::Tcp(Arc::new(TcpProxy {
            stat_prefix: "app".into(),
            clusters: vec![("app".into(), 1)],
            idle_timeout: None,
            hash_source_ip: false,
            tunnel: Some("far.example.com:443".into()),
            max_connect_attempts: 1,
            access_logs: Vec::new(),
        }))
    };
    let (_proxy, front) = proxy_to(terminal(), vec![cluster("app", &[address], &Transport::Plain)]).await;
    let mut client = connect(front).await;
    client.write_all(b"early").await.expect("open");
    let mut server = accept(&socket).await;
    assert_eq!(exactly(&mut server, ASKED.len()).await, ASKED);
    // What the far side says at once comes with the answer.
    server
        .write_all(b"HTTP/1.1 200 OK\r\nvia: proxy\r\n\r\nhello")
        .await
        .expect("open");
    assert_eq!(exactly(&mut client, 5).await, b"hello");
    assert_eq!(exactly(&mut server, 5).await, b"early");

    let mut client = connect(front).await;
    let mut server = accept(&socket).await;
    exactly(&mut server, ASKED.len()).await;
    server
        .write_all(b"HTTP/1.1 403 Forbidden\r\n\r\nno")
        .await
        .expect("open");
    let mut answer = Vec::new();
    let _ = soon("the end", client.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"", "a refusal is not taken for the far side's bytes");
}

#[tokio::test]
async fn a_header_says_whose_connection_it_is() {
    let (socket, address) = upstream().await;
    let transport = Transport::Proxied(ProxyVersion::V1, None);
    let (_proxy, front) = proxy_to(tcp_to("app"), vec![cluster("app", &[address], &transport)]).await;
    let mut client = connect(front).await;
    client.write_all(b"hello").await.expect("open");
    let own = client.local_addr().expect("bound");
    let expected = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello",
        own.port(),
        front.port()
    );
    let mut server = accept(&socket).await;
    let seen = exactly(&mut server, expected.len()).await;
    assert_eq!(String::from_utf8_lossy(&seen), expected);
}
