//! TLS: server and client configurations, SPIFFE verification, handshakes.
//!
//! - [`params`]: what a configuration is made of; [`config`] makes rustls configurations of it;
//! - [`provider`]: whose cryptography, and which suites;
//! - [`verify`]: peers, by chain ([`trust`], [`version1`]) and names; [`names`]: what certificates say;
//! - [`handshake`]: [`connect`] and [`accept`].

mod config;
mod handshake;
mod names;
mod params;
mod provider;
mod trust;
mod verify;
mod version1;

#[cfg(test)]
mod tests;

pub use config::*;
pub use handshake::*;
pub use names::*;
pub use params::*;
pub use provider::{install_provider, provider};
