//! Envoy's messages → the runtime model.
//!
//! The [`Builder`] holds every accepted message and the object that was made of it. An update replaces messages by name;
//! only objects whose message or dependency changed are made anew, the others keep their `Arc`. A message that is refused
//! leaves the one before it in force. An object whose dependencies (routes, endpoints, secrets, addresses) have not come yet
//! waits for them, for a bounded time, while the one before it stays in force.
//!
//! - [`invalid`]: refusals with their paths; [`strict`]: what may be set at all, by the tables that mesh-control asks too.
//! - [`listener`], [`http_manager`], [`route`], [`cluster`], [`endpoint`], [`tls`], [`secret`]: one conversion each.

mod access_log;
mod builder;
mod circuit_breakers;
mod cluster;
mod cluster_http;
mod common;
mod context;
mod dynamic_forward;
mod endpoint;
mod entry;
mod forward;
mod health;
mod http_filters;
mod http_manager;
mod invalid;
mod lb;
mod listener;
mod outlier;
mod per_route;
mod route;
mod route_match;
mod secret;
mod settle;
mod strict;
#[cfg(test)]
mod tests;
mod tls;
mod update;

pub use builder::Builder;
pub use invalid::Invalid;
pub(crate) use secret::{certificates, identity, system_roots};
pub(crate) use strict::check;
pub use update::{Applied, Incoming, Rejection, Update, Wants};
