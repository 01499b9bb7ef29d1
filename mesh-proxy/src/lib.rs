//! Ferromesh's data plane: an Envoy v3 proxy and its agent in one process.
//!
//! The folders stand in the order in which data passes: [`agent`] (environment → bootstrap, identity) → [`xds`]
//! (configuration comes in) → [`snapshot`] (Envoy's messages → the runtime model) → [`listener`] → [`http`] and
//! [`tcp`] → [`upstream`]; beside them [`tls`], [`dns`], [`telemetry`] and [`admin`].

pub mod admin;
pub mod agent;
pub mod app;
pub mod bootstrap;
pub mod cli;
pub mod dns;
pub mod http;
pub mod listener;
pub mod shared;
pub mod snapshot;
pub mod tcp;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod upstream;
pub mod worker;
mod wrap;
pub mod xds;
