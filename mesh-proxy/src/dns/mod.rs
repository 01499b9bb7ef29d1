//! DNS: look-ups for clusters, and the DNS proxy of the pod.

pub mod proxy;
pub mod resolver;

pub use resolver::Resolver;
