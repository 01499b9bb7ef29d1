//! Port-forwards against a server that speaks like an API server with a kubelet behind it.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::*;

const PORT: u16 = 15000;
const PROTOCOL: &str = "v4.channel.k8s.io";

/// What the kubelet finds at the port.
#[derive(Clone, Copy)]
enum Behind {
    Answer(&'static str),
    Nobody,
}

/// One port-forward; gives the path that was asked for at the API server, and what came through.
async fn api_server(listener: TcpListener, behind: Behind) -> (String, String) {
    let (stream, _) = listener.accept().await.expect("a connection");
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the type is the library's")]
    let handshake = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        path = request.uri().to_string();
        let protocol = HeaderValue::from_static(PROTOCOL);
        response.headers_mut().insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, handshake).await.expect("a websocket");
    let frame = |channel: u8, data: &[u8]| Message::binary([&[channel], data].concat());
    for channel in [0, 1] {
        let hello = frame(channel, &PORT.to_le_bytes());
        socket.send(hello).await.expect("sent");
    }
    let mut came = Vec::new();
    if let Behind::Answer(answer) = behind {
        while !came.windows(4).any(|w| w == b"\r\n\r\n") {
            let Some(Ok(message)) = socket.next().await else { break };
            came.extend_from_slice(message.into_data().get(1..).unwrap_or_default());
        }
        socket.send(frame(0, answer.as_bytes())).await.expect("sent");
        // Until the other side has read and goes.
        while let Some(Ok(_)) = socket.next().await {}
    } else {
        let reason = b"dial tcp4 127.0.0.1:15000: connection refused";
        let _ = socket.send(frame(1, reason)).await;
        let _ = socket.close(None).await;
    }
    (path, String::from_utf8_lossy(&came).into_owned())
}

async fn ask(behind: Behind) -> (Result<Reply>, (String, String)) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(api_server(listener, behind));
    let client = Client::try_from(Config::new(url.parse().expect("a URL"))).expect("a client");
    let cluster = Cluster {
        client,
        namespace: "default".to_owned(),
        root: "istio-system".to_owned(),
    };
    let pod = PodName {
        name: "web-1".to_owned(),
        namespace: "shop".to_owned(),
    };
    let reply = cluster.ask(&pod, PORT, Method::POST, "/logging?level=debug").await;
    drop(cluster);
    (reply, server.await.expect("the server"))
}

#[tokio::test]
async fn a_page_is_asked_through_the_api_server() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes";
    let (reply, (path, came)) = ask(Behind::Answer(answer)).await;
    assert_eq!(reply.expect("an answer").text().expect("200"), "yes");
    assert_eq!(path, "/api/v1/namespaces/shop/pods/web-1/portforward?&ports=15000");
    assert!(came.starts_with("POST /logging?level=debug HTTP/1.1\r\n"), "{came}");
    assert!(came.contains("host: localhost:15000\r\n"), "{came}");
}

#[tokio::test]
async fn a_refusal_is_said_with_its_reason() {
    let (reply, _) = ask(Behind::Answer(
        "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnone\n",
    ))
    .await;
    let error = reply.and_then(Reply::good).expect_err("404");
    assert_eq!(error.to_string(), "answered 404 Not Found: none");
    let (reply, _) = ask(Behind::Nobody).await;
    let error = format!("{:#}", reply.expect_err("nobody"));
    assert!(error.starts_with("port 15000 of pod web-1.shop: "), "{error}");
    assert!(error.contains("connection refused"), "{error}");
}
