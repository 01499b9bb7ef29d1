//! Requests by HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::LIMIT;
use super::client::{Answer, Ask, Leave};

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

/// Sends a request, with a body only the beginning of it, reads the beginning of the answer where it is to, and leaves when
/// it is time. A connection of which only a stream was reset lasts as long as the value.
pub(crate) fn leave(to: SocketAddr, ask: &Ask, how: Leave, answered: bool, time: impl FnOnce()) -> Left {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let leaving = async {
        let (mut client, driving) = connect(to).await?;
        let (response, mut sending) = client.send_request(request(ask), ask.body.is_none())?;
        if let Some(body) = &ask.body {
            sending.send_data(Bytes::from(body.clone()), false)?;
        }
        let reading = if answered {
            let mut body = response.await?.into_body();
            body.data().await.expect("a beginning")?;
            None
        } else {
            Some(response)
        };
        time();
        match how {
            Leave::Close | Leave::Half => {
                driving.abort();
                // No stream is let go before the connection is, as that would reset it.
                let _ = driving.await;
            }
            Leave::Reset => sending.send_reset(h2::Reason::CANCEL),
        }
        drop(reading);
        Ok::<_, h2::Error>(client)
    };
    let client = runtime.block_on(async { tokio::time::timeout(LIMIT, leaving).await });
    let client = client.expect("in time").unwrap_or_else(|e| panic!("{e}: {ask:?}"));
    Left {
        _client: client,
        _runtime: runtime,
    }
}

/// A connection that a stream was left on.
pub(crate) struct Left {
    _client: SendRequest<Bytes>,
    _runtime: Runtime,
}

fn request(ask: &Ask) -> Request<()> {
    let uri = format!("http://{}{}", ask.host, ask.path);
    let mut request = Request::builder().method(ask.method.as_str()).uri(uri);
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    request.header("x-case", ask.number).body(()).expect("a request")
}

type Driving = tokio::task::JoinHandle<Result<(), h2::Error>>;

async fn connect(to: SocketAddr) -> Result<(SendRequest<Bytes>, Driving), h2::Error> {
    let stream = TcpStream::connect(to).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await?;
    let driving = tokio::spawn(connection);
    Ok((client.ready().await?, driving))
}

async fn exchange(ask: &Ask, to: SocketAddr) -> Result<Answer, h2::Error> {
    let (mut client, driving) = connect(to).await?;
    let (response, mut sending) = client.send_request(request(ask), ask.body.is_none())?;
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
