//! DNS: look-ups for clusters, and the DNS proxy of the pod.
//!
//! - [`resolver`]: look-ups, as the system does them.
//! - [`proxy`]: the sockets of the DNS proxy. [`names`]: what it knows. [`answer`]: what it says. [`forward`]: whom it
//!   asks for the rest.

mod answer;
mod forward;
mod names;
pub mod proxy;
mod resolv_conf;
pub mod resolver;

pub use resolver::Resolver;
