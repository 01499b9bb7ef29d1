//! The same bootstraps on a real Envoy and on mesh-proxy: the same requests get the same answers, upstreams see the same
//! attempts, and statistics, health flags and access logs say the same.
//!
//! `ENVOY_BIN` names Envoy's program; `cargo xtask test` sets it. Without it the tests say that they are left out; under
//! `CI=true` that is a failure.

mod access_log;
mod balancing;
mod breakers;
mod callers;
mod cors;
mod dynamic_dns;
mod edge;
mod faults;
mod grpc;
mod headers;
mod hedging;
mod http2;
mod mirrors;
mod outlier;
mod rate_limit;
mod retries;
mod rewrites;
mod routing;
mod stickiness;
mod support;
mod tcp;
mod timeouts;
mod upgrades;

/// How many behaviours are compared; [`support::compare`] holds each theme to its number.
const BEHAVIOURS: usize = access_log::BEHAVIOURS
    + balancing::BEHAVIOURS
    + breakers::BEHAVIOURS
    + callers::BEHAVIOURS
    + cors::BEHAVIOURS
    + dynamic_dns::BEHAVIOURS
    + edge::BEHAVIOURS
    + faults::BEHAVIOURS
    + grpc::BEHAVIOURS
    + headers::BEHAVIOURS
    + hedging::BEHAVIOURS
    + http2::BEHAVIOURS
    + mirrors::BEHAVIOURS
    + outlier::BEHAVIOURS
    + rate_limit::BEHAVIOURS
    + retries::BEHAVIOURS
    + rewrites::BEHAVIOURS
    + routing::BEHAVIOURS
    + stickiness::BEHAVIOURS
    + tcp::BEHAVIOURS
    + timeouts::BEHAVIOURS
    + upgrades::BEHAVIOURS;

const _: () = assert!(BEHAVIOURS >= 60);
