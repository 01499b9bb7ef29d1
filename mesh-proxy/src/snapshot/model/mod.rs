//! The runtime model: what the data path reads. Built from Envoy's messages by [`crate::snapshot::build`], immutable
//! once published, swapped as one `Arc`.
//!
//! Objects that did not change keep their `Arc` from one snapshot to the next. State that has to outlive a change of
//! configuration (counters, load-balancer positions, requests in flight) is reached through an `Arc` of its own inside
//! [`Cluster`] and [`Endpoint`], which the builder carries over by name and address.

mod balance;
mod cluster;
mod hash;
mod health;
mod listener;
mod outlier;
mod route;
mod route_filters;
mod table;
mod tls;

pub use balance::*;
pub use cluster::*;
pub use hash::*;
pub use health::*;
pub use listener::*;
pub use outlier::*;
pub use route::*;
pub use route_filters::*;
pub use table::*;
pub use tls::*;

use std::sync::Arc;

/// Map with the fast hasher that the whole proxy uses.
pub type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// Everything that the data path knows, at one instant.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows by one with every published snapshot.
    pub version: u64,
    /// Listeners by name.
    pub listeners: Map<Arc<str>, Arc<Listener>>,
    /// Route tables by RDS name (inline ones live in their [`HttpConnectionManager`]).
    pub routes: Map<Arc<str>, Arc<RouteTable>>,
    /// Clusters by name.
    pub clusters: Map<Arc<str>, Arc<Cluster>>,
    /// Secrets by name, for `/certs` and dumps; the data path reads them through [`ServerTls`] and [`ClientTls`].
    pub secrets: Map<Arc<str>, Secret>,
}

/// A secret, ready to use.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A certificate chain with its key.
    Identity(Arc<crate::tls::Identity>),
    /// Issuers that are trusted.
    Trust(Arc<crate::tls::TrustBundle>),
}

/// Where a piece of configuration came from: Istio's `filter_metadata.istio.config`, such as
/// `/apis/networking.istio.io/v1/namespaces/shop/virtual-service/catalog`.
pub type Origin = Option<Arc<str>>;
