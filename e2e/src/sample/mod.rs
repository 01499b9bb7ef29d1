//! The sample application: one program that plays the images of the study notes' labs by their names.
//!
//! | image | role |
//! | --- | --- |
//! | `nicholasjackson/fake-service` | [`fake`]: calls its upstreams and reports the chain |
//! | `istioinaction/catalog` | [`catalog`]: items, with faults on demand |
//! | `istioinaction/webapp` | [`webapp`]: a facade before the catalog |
//! | any `httpbin` | [`httpbin`]: shows what it was sent |
//! | any `tcp-echo` | [`tcp`] |
//! | `netshoot`, `curl`, … | waits, for clients that are run beside it |
//!
//! Every HTTP role speaks HTTP/1.1 and HTTP/2 without TLS on its port, and there also gRPC ([`grpc`]) and WebSocket
//! (`/ws`, [`websocket`]); with `TCP_LISTEN_ADDR` any role echoes on TCP ports as well.

pub mod catalog;
pub mod client;
pub mod env;
pub mod fake;
pub mod grpc;
pub mod grpc_client;
pub mod httpbin;
pub mod image;
pub mod server;
pub mod tcp;
pub mod trace;
pub mod upstream;
pub mod webapp;
pub mod websocket;

use std::sync::Arc;

use anyhow::Result;
use env::Env;
use image::Role;
use server::{App, Handler};

/// Plays an image until the process is told to end.
///
/// # Errors
/// When the image is unknown, a variable has a value that cannot be, or a port cannot be bound.
pub async fn run(image: &str, arguments: &[String], env: &Env) -> Result<()> {
    let role = Role::of(image)?;
    for address in env.list("TCP_LISTEN_ADDR") {
        tcp::spawn(&address, String::new()).await?;
    }
    let (handler, address) = match role {
        Role::Fake { calls } => {
            let service = fake::FakeService::from_env(env, calls)?;
            (Handler::Fake(service), env.text("LISTEN_ADDR", "0.0.0.0:9090"))
        }
        Role::Catalog => {
            let catalog = catalog::Catalog::new(env.flag("SHOW_IMAGE")?);
            (Handler::Catalog(catalog), env.text("LISTEN_ADDR", "0.0.0.0:3000"))
        }
        Role::Webapp => {
            let webapp = webapp::Webapp::from_env(env);
            (Handler::Webapp(webapp), env.text("LISTEN_ADDR", "0.0.0.0:8080"))
        }
        Role::Httpbin => (Handler::Httpbin, env.text("LISTEN_ADDR", "0.0.0.0:80")),
        Role::TcpEcho => {
            let ports = arguments.first().map_or("9000,9001", String::as_str);
            let prefix = arguments.get(1).cloned().unwrap_or_default();
            for port in ports.split(',') {
                tcp::spawn(&format!("0.0.0.0:{}", port.trim()), prefix.clone()).await?;
            }
            return wait_for_end().await;
        }
        Role::Idle => return wait_for_end().await,
    };
    let app = Arc::new(App {
        pod: env.text("HOSTNAME", ""),
        handler,
        requests: std::sync::atomic::AtomicU64::default(),
    });
    // More than one address, by commas: a mesh tells protocols by ports.
    let addresses = address
        .split(',')
        .map(|address| server::serve(address.trim(), Arc::clone(&app)));
    tokio::select! {
        served = futures_util::future::try_join_all(addresses) => served.map(drop),
        ended = wait_for_end() => ended,
    }
}

async fn wait_for_end() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
