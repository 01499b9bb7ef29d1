//! Opaque TCP: one connection in, one out, bytes both ways.
//!
//! - [`session`]: cluster, endpoint, connection, and the books on it;
//! - [`exchange`]: the metadata that two proxies send each other ahead of the application's bytes;
//! - [`copy`]: the bytes.

mod copy;
mod exchange;
mod session;

#[cfg(test)]
mod tests;

pub use copy::{End, Tally, Totals, copy_both};
pub use session::serve_connection;
