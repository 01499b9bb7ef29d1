//! DNS: look-ups for clusters, and the DNS proxy of the pod.
//!
//! - [`resolver`]: look-ups, as the system does them. [`cache`]: the addresses of hosts that requests name.
//! - [`proxy`]: the sockets of the DNS proxy. [`names`]: what it knows. [`answer`]: what it says. [`forward`]: whom it
//!   asks for the rest.

mod answer;
pub mod cache;
mod forward;
mod names;
pub mod proxy;
mod resolv_conf;
pub mod resolver;

pub use cache::{CacheSettings, Caches, DnsCache, Unresolved};
pub use resolver::Resolver;
