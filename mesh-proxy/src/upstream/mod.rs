//! Upstreams: load balancing ([`pick`]), connecting ([`connect`]), connection pools ([`Pools`]).

mod balance;
mod connect;
mod exec;
pub mod health_check;
mod io;
mod lease;
mod line;
pub(crate) mod mark;
pub mod outlier;
mod pool;
mod proxy_header;
mod shared;
pub mod slow_start;

#[cfg(test)]
mod tests;

pub use balance::*;
pub use connect::*;
pub use exec::LocalExec;
pub use io::UpstreamIo;
pub(crate) use lease::*;
pub use pool::Pools;
pub(crate) use pool::{Protocol, Want};
pub use proxy_header::Proxied;
