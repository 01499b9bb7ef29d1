//! From Envoy's messages to the runtime model.
//!
//! - [`build`]: Envoy's messages → the model.
//! - [`model`]: what the data path reads.
//! - [`resources`]: the messages as they came.

pub mod build;
pub mod model;
pub mod resources;

pub use model::*;
