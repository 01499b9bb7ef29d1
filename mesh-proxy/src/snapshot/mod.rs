//! From Envoy's messages to the runtime model.
//!
//! - [`model`]: what the data path reads.
//! - [`resources`]: the messages as they came.

pub mod model;
pub mod resources;

pub use model::*;
