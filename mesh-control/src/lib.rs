//! Ferromesh's control plane: objects in, Envoy v3 resources out.
//!
//! The folders follow the data: `source` reads objects → `store` is one immutable, indexed snapshot of them → `compile`
//! turns (snapshot, proxy) into resources, as pure functions → [`serve`] speaks to proxies. [`inject`] puts proxies into Pods.

pub mod analyze;
pub mod cli;
pub mod cli_compile;
pub mod cli_inject;
pub mod compile;
pub mod inject;
pub mod serve;
pub mod source;
pub mod store;
