//! The whole mesh: real capture, proxies, control plane and certificates, from ordinary YAML.
//!
//! Each test starts a mesh of its own, one after the other, since all of them use every core. They need root, iptables and
//! iproute2, and the workspace's programs built beside this test; where something is missing they say so and pass, but not
//! under `CI=true`.

mod chain;
mod change;
mod drain;
mod faults;
mod gateway_tls;
mod ipv6;
mod lab;
mod metrics;
mod peers;
mod protocols;
mod renewal;
mod resilience_balance;
mod resilience_limits;
mod resilience_locality;
mod resilience_outlier;
mod resilience_retries;
mod resilience_time;
mod routing;
mod scope;
mod security;
mod tls;
