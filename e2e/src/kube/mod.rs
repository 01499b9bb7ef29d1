//! Scenarios on Kubernetes: what a user of a cluster does with `kubectl`, and what must come of it.
//!
//! The mesh is installed already; [`run`] makes namespaces for each scenario, runs it, removes them, and keeps what explains
//! a failure. Everything is asked through `kubectl`, as people do.

mod evidence;
mod helm;
mod kubectl;
mod run;
mod scenarios;
mod space;

pub use helm::Helm;
pub use kubectl::Kubectl;
pub use run::{Options, World, run};
