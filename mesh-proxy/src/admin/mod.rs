//! Admin API, readiness, metrics.
