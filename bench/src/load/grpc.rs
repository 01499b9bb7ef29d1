//! gRPC streams that stay open for the whole load, on h2 itself: what a message costs, without what a stream's begin and
//! end cost.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Version};
use tokio::net::TcpStream;

use super::stream::{Tally, closed_loop};
use super::{Outcome, Target, h2load};

/// Of a stream, and of a connection.
const WINDOW: u32 = 1 << 20;
/// A stream that is silent for so long has failed.
const SILENCE: Duration = Duration::from_secs(10);

/// So many connections with so many streams each, `window` messages under way on every one.
pub(crate) fn messages(target: &Target, connections: u32, streams: u32, window: u32) -> Result<Outcome> {
    let target = target.clone();
    closed_loop(target.time, connections, move |tally| {
        let target = target.clone();
        async move {
            let stream = TcpStream::connect(target.address).await?;
            stream.set_nodelay(true)?;
            let mut client = h2::client::Builder::new();
            client
                .initial_window_size(WINDOW)
                .initial_connection_window_size(WINDOW);
            let (sender, connection) = client.handshake::<_, Bytes>(stream).await?;
            tokio::task::spawn_local(async move {
                let _ = connection.await;
            });
            let host: Rc<str> = target.host.as_str().into();
            let running: Vec<_> = (0..streams)
                .map(|_| tokio::task::spawn_local(one(sender.clone(), host.clone(), tally.clone(), window)))
                .collect();
            for stream in running {
                stream.await??;
            }
            Ok(())
        }
    })
}

async fn one(sender: SendRequest<Bytes>, host: Rc<str>, tally: Tally, window: u32) -> Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{host}/bench.Echo/Stream"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut out) = sender.ready().await?.send_request(request, false)?;
    let message = Bytes::from(h2load::message());
    let mut under_way = VecDeque::new();
    for _ in 0..window {
        under_way.push_back(Instant::now());
        out.send_data(message.clone(), false)?;
    }
    let response = tokio::time::timeout(SILENCE, response)
        .await
        .context("no answer to a stream")??;
    if !response.status().is_success() {
        bail!("answered {}", response.status());
    }
    let mut back = response.into_body();
    let mut bytes = 0;
    while !under_way.is_empty() {
        let data = tokio::time::timeout(SILENCE, back.data())
            .await
            .context("a stream fell silent")?
            .with_context(|| format!("a stream ended with {} messages under way", under_way.len()))??;
        back.flow_control().release_capacity(data.len())?;
        bytes += data.len();
        // A proxy may join messages, or cut them.
        while bytes >= message.len() {
            bytes -= message.len();
            let sent = under_way
                .pop_front()
                .context("more messages came back than were sent")?;
            tally.done(sent);
            if tally.runs() {
                under_way.push_back(Instant::now());
                out.send_data(message.clone(), false)?;
            }
        }
    }
    out.send_data(Bytes::new(), true)?;
    Ok(())
}
