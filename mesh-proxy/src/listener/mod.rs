//! Accepting, original destination, inspection, choice of a filter chain.

mod conn;

pub use conn::*;
