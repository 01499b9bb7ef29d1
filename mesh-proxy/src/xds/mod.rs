//! The control plane's stream: configuration comes in over ADS, answers and subscriptions go out.
//!
//! - [`target`], [`channel`]: where the control plane is and how it is reached;
//! - [`client`]: one stream after the other, with backoff; [`delta`] and [`sotw`]: the two protocols on it;
//! - [`last_good`]: what was accepted, on disk, so that a restarted proxy serves without the control plane.
//!
//! The data path never waits for any of it.

mod channel;
mod client;
mod delta;
mod last_good;
mod sotw;
mod target;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use channel::{channel, with_credentials};
pub use client::run;
pub use last_good::LastGood;
pub use target::{Protocol, Roots, Settings, Target, Upstream, check_bootstrap};
