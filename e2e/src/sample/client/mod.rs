//! Clients for scenarios. Each prints one JSON document when it is done.

pub mod load;
pub mod streams;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::env::duration;

/// Which client.
#[derive(Debug, Clone, Subcommand)]
pub enum Client {
    /// HTTP requests at a rate or as fast as they are answered
    Load(load::Load),
    /// A WebSocket that is kept open and echoes
    Ws(Talk),
    /// A gRPC stream that is kept open and echoes
    Grpc(Talk),
    /// A TCP connection that is kept open and echoes
    Tcp(Talk),
    /// One gRPC call
    GrpcCall(GrpcCall),
}

/// A connection over which a message goes to and fro until the time is over.
#[derive(Debug, Clone, Args)]
pub struct Talk {
    /// `ws://HOST:PORT/ws`, `http://HOST:PORT` for gRPC, `HOST:PORT` for TCP
    pub target: String,
    /// What is sent, followed by a number
    #[arg(long, default_value = "hello")]
    pub text: String,
    /// Messages to send
    #[arg(long, default_value_t = 1)]
    pub messages: u64,
    /// Pause between them
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    pub interval: Duration,
    /// How long one answer may take
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// One call of the method with one message each way.
#[derive(Debug, Clone, Args)]
pub struct GrpcCall {
    /// `http://HOST:PORT`
    pub target: String,
    /// What is sent
    #[arg(long, default_value = "hello")]
    pub text: String,
    /// Status that the service is to end with
    #[arg(long, default_value_t = 0)]
    pub code: i32,
}

/// Reads a duration such as `1.5s`.
///
/// # Errors
/// When it is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "expected a duration such as 150ms or 1.5s".to_owned())
}

/// Runs a client and gives its report as JSON.
///
/// # Errors
/// When the target is none. What goes wrong on the wire is part of the report.
pub async fn run(client: Client) -> Result<serde_json::Value> {
    Ok(match client {
        Client::Load(load) => serde_json::to_value(load::run(load).await?)?,
        Client::Ws(talk) => serde_json::to_value(streams::websocket(&talk).await)?,
        Client::Grpc(talk) => serde_json::to_value(streams::grpc(&talk).await)?,
        Client::Tcp(talk) => serde_json::to_value(streams::tcp(&talk).await)?,
        Client::GrpcCall(call) => serde_json::to_value(streams::grpc_call(&call).await)?,
    })
}
