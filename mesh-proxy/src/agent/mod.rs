//! The agent's part: environment → bootstrap, and the workload's identity.
//!
//! - [`Environment`], [`Agent`]: what the injector's template says, checked and merged;
//! - [`identity`]: key, request, renewal.

mod bootstrap;
mod environment;
mod identity;
mod injected;
mod metadata;
mod proxy_config;
mod settings;
mod stats;
#[cfg(test)]
mod tests;

pub use environment::Environment;
pub(crate) use identity::jitter;
pub use identity::{Issued, certificate_lifetime};
pub use settings::{Agent, Ports, Role};
