//! From Envoy's messages to the runtime model.
//!
//! - [`build`]: Envoy's messages → the model.
//! - [`config`]: the builder of a running proxy, and who is told of changes.
//! - [`model`]: what the data path reads.
//! - [`resources`]: the messages as they came.

pub mod build;
pub mod config;
pub mod model;
pub mod resources;

pub use model::*;
