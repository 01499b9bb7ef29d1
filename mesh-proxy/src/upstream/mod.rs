//! Upstreams: load balancing ([`pick`]), connecting ([`connect`]), connection pools ([`Pools`]).

mod balance;
mod connect;
mod io;
mod pool;

pub use balance::*;
pub use connect::*;
pub use io::*;
pub use pool::*;
