//! Accepting, original destination, inspection, choice of a filter chain.

mod conn;

pub use conn::*;

/// Open connections of one worker.
#[derive(Debug, Default)]
pub struct Connections {}
