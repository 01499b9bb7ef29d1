//! Opaque TCP: one connection in, one out, bytes both ways.
//!
//! - [`session`]: cluster, endpoint, connection, and the books on it;
//! - [`exchange`]: the metadata that two proxies send each other ahead of the application's bytes;
//! - [`copy`]: the bytes both ways; [`direction`]: those of one way, through a buffer ([`buffers`]) or, from socket to socket, through a [`pipe`];
//! - [`read_ahead`]: larger reads below TLS;
//! - [`stream`]: what the copying has to know of either side.

mod buffers;
mod copy;
mod direction;
mod exchange;
mod pipe;
mod read_ahead;
mod session;
mod stream;
mod tunnel;

#[cfg(test)]
mod splice_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tunnel_tests;

pub use copy::{End, Tally, Totals, copy_both};
pub use read_ahead::ReadAhead;
pub use session::serve_connection;
pub use stream::ByteStream;
