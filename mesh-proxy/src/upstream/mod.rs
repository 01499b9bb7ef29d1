//! Upstreams: load balancing ([`pick`]), connecting ([`connect`]), connection pools ([`Pools`]).

mod balance;
mod connect;
mod exec;
mod io;
mod lease;
pub(crate) mod mark;
mod pool;

#[cfg(test)]
mod tests;

pub use balance::*;
pub use connect::*;
pub use exec::LocalExec;
pub use io::UpstreamIo;
pub(crate) use lease::*;
pub use pool::Pools;
pub(crate) use pool::{Counted, Protocol, Want};
