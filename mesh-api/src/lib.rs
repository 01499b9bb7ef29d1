//! The types that every part of Ferromesh shares.
//!
//! - [`names`]: cluster, listener and SPIFFE names, ports, labels and annotations, in one place.
//! - [`proxy_fields`]: which fields of `ProxyConfig` are in force.
//! - [`envoy`]: Envoy's v3 messages, their proto3 JSON form, and canonical bytes (feature `envoy`).
//! - [`ca`], [`nds`]: Istio's certificate service and name table (feature `envoy`).
//! - `istio`, `k8s`, `mesh_config`: the objects that users write (feature `istio`).
//!
//! Architecture invariant: no tokio, no sockets, no Kubernetes client in this crate.

pub mod names;
pub mod proxy_fields;

#[cfg(feature = "envoy")]
pub mod envoy;

#[cfg(feature = "istio")]
pub mod crd;
#[cfg(feature = "istio")]
pub mod istio;
#[cfg(feature = "istio")]
pub mod k8s;
#[cfg(feature = "istio")]
pub mod mesh_config;

/// Istio's certificate service, `istio.v1.auth.IstioCertificateService`.
#[cfg(feature = "envoy")]
#[allow(clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
pub mod ca {
    include!(concat!(env!("OUT_DIR"), "/istio.v1.auth.rs"));
}

/// Istio's name table, `istio.networking.nds.v1.NameTable`.
#[cfg(feature = "envoy")]
#[allow(clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
pub mod nds {
    include!(concat!(env!("OUT_DIR"), "/istio.networking.nds.v1.rs"));
}
