//! Connections that stay open: each message must come back as it was sent.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use http::Uri;
use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message as Frame;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::{GrpcCall, Talk};
use crate::sample::grpc::{Message, SAY, TALK};

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Messages sent.
    pub sent: u64,
    /// Messages that came back as they were sent.
    pub received: u64,
    /// Why it ended before its time.
    pub error: Option<String>,
}

/// What came of one gRPC call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReport {
    /// gRPC status.
    pub code: i32,
    /// Text of the answer, or the status' message.
    pub text: String,
}

fn report(counts: (u64, u64), result: Result<()>) -> Report {
    Report {
        sent: counts.0,
        received: counts.1,
        error: result.err().map(|error| format!("{error:#}")),
    }
}

async fn within<T>(limit: Duration, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, future)
        .await
        .with_context(|| format!("nothing within {limit:?}"))?
}

/// TCP echo.
pub async fn tcp(talk: &Talk) -> Report {
    let mut counts = (0, 0);
    let result = async {
        let connect = async { TcpStream::connect(&talk.target).await.context("connection") };
        let mut stream = within(talk.timeout, connect).await?;
        for number in 0..talk.messages {
            let text = format!("{} {number}\n", talk.text);
            stream.write_all(text.as_bytes()).await.context("sending")?;
            counts.0 += 1;
            let mut back = vec![0; text.len()];
            within(talk.timeout, async {
                Ok(stream.read_exact(&mut back).await.map(|_| ())?)
            })
            .await?;
            ensure!(back == text.as_bytes(), "another text came back");
            counts.1 += 1;
            tokio::time::sleep(talk.interval).await;
        }
        Ok(())
    }
    .await;
    report(counts, result)
}

/// WebSocket echo.
pub async fn websocket(talk: &Talk) -> Report {
    let mut counts = (0, 0);
    let result = async {
        let uri: Uri = talk.target.parse().context("target")?;
        let (host, port) = (uri.host().context("target without host")?, uri.port_u16().unwrap_or(80));
        let connect = async {
            let stream = TcpStream::connect((host, port)).await.context("connection")?;
            client_async(talk.target.as_str(), stream)
                .await
                .context("WebSocket handshake")
        };
        let (mut socket, _) = within(talk.timeout, connect).await?;
        for number in 0..talk.messages {
            let text = format!("{} {number}", talk.text);
            socket.send(Frame::text(text.clone())).await.context("sending")?;
            counts.0 += 1;
            let back = within(talk.timeout, async {
                loop {
                    match socket.next().await {
                        Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                        Some(frame) => return Ok(frame?),
                        None => bail!("closed by the other side"),
                    }
                }
            })
            .await?;
            ensure!(
                back.to_text().ok() == Some(text.as_str()),
                "another message came back: {back:?}"
            );
            counts.1 += 1;
            tokio::time::sleep(talk.interval).await;
        }
        let _ = socket.close(None).await;
        Ok(())
    }
    .await;
    report(counts, result)
}

/// gRPC echo over one stream.
pub async fn grpc(talk: &Talk) -> Report {
    let mut counts = (0, 0);
    let result = async {
        let mut grpc = client(&talk.target, talk.timeout).await?;
        let (send, receive) = mpsc::unbounded_channel();
        let request = tonic::Request::new(UnboundedReceiverStream::new(receive));
        let codec = ProstCodec::<Message, Message>::default();
        // Headers of the answer may come with its first message only.
        let message = |number| Message {
            text: format!("{} {number}", talk.text),
            code: 0,
        };
        if talk.messages > 0 {
            send.send(message(0)).context("sending")?;
            counts.0 += 1;
        }
        let opened = async { Ok(grpc.streaming(request, PathAndQuery::from_static(TALK), codec).await?) };
        let mut answers = within(talk.timeout, opened).await?.into_inner();
        for number in 0..talk.messages {
            if number > 0 {
                send.send(message(number)).context("sending")?;
                counts.0 += 1;
            }
            let back = within(talk.timeout, async { Ok(answers.message().await?) }).await?;
            ensure!(back == Some(message(number)), "another message came back: {back:?}");
            counts.1 += 1;
            tokio::time::sleep(talk.interval).await;
        }
        drop(send);
        let end = within(talk.timeout, async { Ok(answers.message().await?) }).await?;
        ensure!(end.is_none(), "more came back than was sent");
        Ok(())
    }
    .await;
    report(counts, result)
}

/// One gRPC call.
pub async fn grpc_call(call: &GrpcCall) -> CallReport {
    let message = Message {
        text: call.text.clone(),
        code: call.code,
    };
    let result = async {
        let mut grpc = client(&call.target, Duration::from_secs(5))
            .await
            .map_err(|e| tonic::Status::unavailable(format!("{e:#}")))?;
        let codec = ProstCodec::<Message, Message>::default();
        let path = PathAndQuery::from_static(SAY);
        grpc.unary(tonic::Request::new(message), path, codec).await
    }
    .await;
    match result {
        Ok(answer) => CallReport {
            code: 0,
            text: answer.into_inner().text,
        },
        Err(status) => CallReport {
            code: i32::from(status.code()),
            text: status.message().to_owned(),
        },
    }
}

async fn client(target: &str, timeout: Duration) -> Result<Grpc<tonic::transport::Channel>> {
    let endpoint = Endpoint::from_shared(target.to_owned())
        .context("target")?
        .connect_timeout(timeout);
    let channel = endpoint.connect().await?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.context("connection")?;
    Ok(grpc)
}
