//! Aggregated discovery: each proxy is sent what changed for it, in an order that breaks nothing.
//!
//! - [`resources`]: what one proxy should hold, by type and name, with a version (a hash of the bytes) each.
//! - [`session`]: one stream's state as a pure state machine: what the proxy asked for, holds and refused. Both forms of
//!   the protocol drive it; [`wire`] translates.
//! - [`hub`]: publishes snapshots and has them compiled, off the network threads.
//! - [`server`]: one task a stream; [`grpc`] brings it onto the wire in small pieces.
//! - [`debug`]: streams of tools, which ask for pages and statuses in place of resources.
//! - [`node`]: who the proxy says it is, checked against who it has proven to be.

pub mod debug;
mod grpc;
pub mod hub;
pub mod node;
pub mod resources;
pub mod server;
pub mod session;
mod watch;
pub mod wire;

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod session_tests;
