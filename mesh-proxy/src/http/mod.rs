//! HTTP: connections from callers, routes, the router.
//!
//! A request passes these in order: [`codec`] (HTTP/1 or 2, [`watched`], [`gather`]) → [`accept`] (checks, [`path`]) → [`handle`] ([`headers`],
//! [`routes`], filters: [`cors`], faults, [`local_rate_limit`], [`header_ops`]) → [`router`] ([`attempts`], [`upstream_request`], [`retry`], [`hedge`], [`hash_policy`], [`timers`],
//! [`mirror`], [`upgrade`]) or [`redirect`], [`reply`]. [`stream`] holds what is known of it, and closes its books;
//! [`body`] and [`response_body`] pass frames.

mod accept;
mod attempts;
mod body;
mod codec;
mod cors;
mod downstream;
mod dynamic_forward;
mod gather;
mod grpc;
mod handle;
mod hash_policy;
mod header_ops;
mod headers;
mod hedge;
mod local_rate_limit;
mod mirror;
#[doc(hidden)]
pub mod parts;
mod path;
mod redirect;
mod reply;
mod response_body;
mod retry;
mod route_stats;
mod router;
mod routes;
mod stream;
mod timers;
mod token_bucket;
mod upgrade;
mod upstream_request;
mod watched;
mod xfcc;

#[cfg(test)]
mod tests;

pub(crate) use body::RequestBody;
pub use codec::serve_connection;
pub(crate) use downstream::Downstream;
pub use downstream::Downstreams;
pub(crate) use gather::Gather;
pub(crate) use hash_policy::hash_of_address;
pub use token_bucket::TokenBucket;
