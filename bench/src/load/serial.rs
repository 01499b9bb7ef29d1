//! One request after the other on one connection: the same work each time, for counting instructions.

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::Target;
use crate::upstream::Local;

/// A connection to a proxy.
pub(crate) struct Serial {
    runtime: Runtime,
    tasks: LocalSet,
    sender: Sender,
    host: String,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Serial {
    /// Connects.
    pub(crate) fn connect(target: &Target, http2: bool) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = LocalSet::new();
        let address = target.address;
        let sender = tasks.block_on(&runtime, async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            anyhow::Ok(if http2 {
                let (sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await?;
                tokio::task::spawn_local(connection);
                Sender::Http2(sender)
            } else {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::task::spawn_local(connection);
                Sender::Http1(sender)
            })
        })?;
        Ok(Self {
            runtime,
            tasks,
            sender,
            host: target.host.clone(),
        })
    }

    /// Sends so many requests and reads the answers to their ends.
    pub(crate) fn requests(&mut self, count: u32) -> Result<()> {
        let Self {
            runtime,
            tasks,
            sender,
            host,
        } = self;
        tasks.block_on(runtime, async {
            for _ in 0..count {
                let request = Request::builder();
                let response = match sender {
                    Sender::Http1(sender) => {
                        let request = request.uri("/b/1024").header("host", host.as_str());
                        sender.ready().await?;
                        sender.send_request(request.body(Empty::new())?).await?
                    }
                    Sender::Http2(sender) => {
                        let request = request
                            .uri(format!("http://{host}/b/1024"))
                            .version(http::Version::HTTP_2);
                        sender.ready().await?;
                        sender.send_request(request.body(Empty::new())?).await?
                    }
                };
                let status = response.status();
                let body = response.into_body().collect().await?.to_bytes();
                if !status.is_success() || body.len() != 1024 {
                    bail!("answered {status} with {} bytes", body.len());
                }
            }
            Ok(())
        })
    }
}
