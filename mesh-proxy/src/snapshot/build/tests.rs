//! Conversions and the builder.
