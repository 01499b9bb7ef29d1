//! Statistics, Istio's metrics, access logs.

pub mod stats;
