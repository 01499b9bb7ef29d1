//! From a listening socket to a connection that is ready for its filters.
//!
//! - [`manager`]: sockets follow the snapshot; a socket belongs to an address, configuration only names its listener;
//! - [`accept`]: a new connection gets a worker, its original destination and its listener;
//! - [`inspect`]: what the first bytes say (TLS with server name and ALPN, HTTP/1, HTTP/2);
//! - [`proxy_protocol`]: what a load balancer says of the caller ahead of that;
//! - [`matching`]: which filter chain serves it;
//! - [`serve`]: the steps above in order, TLS termination, then [`crate::http`] or [`crate::tcp`];
//! - [`connections`]: what is open, and what becomes of it when configuration changes or the proxy shuts down.

mod accept;
mod conn;
mod connections;
mod inspect;
mod manager;
mod matching;
mod prefixed;
mod proof;
mod proxy_protocol;
mod serve;

#[cfg(test)]
mod tests;

pub use conn::*;
pub use connections::Connections;
pub use inspect::{Detected, Ended, Inspected, Sniffer};
pub use manager::{Bound, Listeners, start};
pub use matching::{Facts, choose};
pub use prefixed::Prefixed;
pub use proof::{Proof, passthrough_address, prove};
