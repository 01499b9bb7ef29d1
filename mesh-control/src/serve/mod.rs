//! What the control plane serves: certificates ([`ca`]) and configuration ([`ads`]).

pub mod ads;
pub mod ca;
