//! From Envoy's messages to the runtime model.
//!
//! - [`model`]: what the data path reads.

pub mod model;

pub use model::*;
