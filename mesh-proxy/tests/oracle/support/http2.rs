//! Requests by HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use tokio::net::TcpStream;

use super::LIMIT;
use super::client::{Answer, Ask};

/// One request on a connection of its own.
pub(super) fn send(ask: &Ask, to: SocketAddr) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let exchange = async { tokio::time::timeout(LIMIT, exchange(ask, to)).await };
    let answer = runtime
        .expect("a runtime")
        .block_on(exchange)
        .expect("an answer in time");
    answer.unwrap_or_else(|e| panic!("no answer: {e}: {ask:?}"))
}

async fn exchange(ask: &Ask, to: SocketAddr) -> Result<Answer, h2::Error> {
    let stream = TcpStream::connect(to).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await?;
    let driving = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let uri = format!("http://{}{}", ask.host, ask.path);
    let mut request = Request::builder().method(ask.method.as_str()).uri(uri);
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    let request = request.header("x-case", ask.number).body(()).expect("a request");
    let (response, mut sending) = client.send_request(request, ask.body.is_none())?;
    if let Some(body) = &ask.body {
        sending.send_data(Bytes::from(body.clone()), true)?;
    }
    let (head, mut receiving) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = receiving.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        receiving.flow_control().release_capacity(data.len())?;
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in &head.headers {
        headers.push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    }
    for (name, value) in receiving.trailers().await?.iter().flatten() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.push((format!("trailer {name}"), value));
    }
    driving.abort();
    Ok(Answer {
        status: head.status.as_u16(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
