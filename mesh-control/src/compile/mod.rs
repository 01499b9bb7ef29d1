//! (snapshot of all objects, proxy) → the Envoy resources of that proxy.
//!
//! Pure functions: no input or output, no clock, no randomness, no global. The same store and proxy give the same bytes
//! (see [`packed`]), in whatever order the objects came. Nothing is dropped silently: what an object says and what has
//! no effect is a [`Warning`], either of one object by itself ([`unsupported`]) or of what it means for a proxy
//! ([`Compiled::warnings`]).

mod cluster;
mod context;
mod endpoint;
mod gateway;
mod inbound;
mod l4;
mod listener;
mod name_table;
mod pack;
mod pb;
mod proxy;
mod route;
#[cfg(test)]
mod tests;
mod unsupported;

use std::collections::BTreeMap;
use std::fmt;

use mesh_api::envoy::pb::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener, route::v3::RouteConfiguration,
};
use mesh_api::envoy::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use mesh_api::nds::NameTable;

use crate::store::Store;

pub use pack::{Packed, Resource, packed};
pub use proxy::Proxy;
pub use unsupported::{unsupported, unsupported_mesh};

/// What a proxy is sent. Keys are the names under which xDS knows the resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compiled {
    /// LDS.
    pub listeners: BTreeMap<String, Listener>,
    /// RDS.
    pub routes: BTreeMap<String, RouteConfiguration>,
    /// CDS.
    pub clusters: BTreeMap<String, Cluster>,
    /// EDS.
    pub endpoints: BTreeMap<String, ClusterLoadAssignment>,
    /// SDS: credentials of a gateway from Kubernetes Secrets, `kubernetes://NAME`.
    pub secrets: BTreeMap<String, Secret>,
    /// NDS.
    pub names: NameTable,
    /// What was asked for and could not be done for this proxy.
    pub warnings: Vec<Warning>,
}

/// Something that an object says and that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// `VirtualService shop/catalog`.
    pub object: String,
    /// Path of the field, `spec.http[0].route[0].destination.host`; empty for the whole object.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "{}: {}", self.object, self.message)
        } else {
            write!(f, "{}: {}: {}", self.object, self.field, self.message)
        }
    }
}

/// Compiles everything that `proxy` is sent.
pub fn compile(store: &Store, proxy: &Proxy) -> Compiled {
    let ctx = context::Context::new(store, proxy);
    let mut out = Compiled::default();
    cluster::outbound(&ctx, &mut out);
    cluster::fixed(&ctx, &mut out);
    if proxy.is_gateway() {
        gateway::gateway(&ctx, &mut out);
    } else {
        sidecar(&ctx, &mut out);
    }
    out.names = name_table::name_table(&ctx);
    out.warnings = ctx.into_warnings();
    out
}

fn sidecar(ctx: &context::Context<'_>, out: &mut Compiled) {
    let ports = inbound::ports(ctx);
    cluster::inbound(ctx, &ports, out);
    for name in listener::sidecar(ctx, &ports, out) {
        let table = route::sidecar(ctx, &name);
        out.routes.insert(name, table);
    }
}
