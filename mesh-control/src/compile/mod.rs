//! (snapshot of all objects, proxy) → the Envoy resources of that proxy.
//!
//! Pure functions: no input or output, no clock, no randomness, no global. The same store and proxy give the same bytes
//! (see [`packed`]), in whatever order the objects came. Nothing is dropped silently: what an object says and what has
//! no effect is a [`Warning`], either of one object by itself ([`unsupported`]) or of what it means for a proxy
//! ([`Compiled::warnings`]).

#[cfg(test)]
mod claim_tests;
mod cluster;
mod context;
mod dynamic_dns;
mod encoded;
mod endpoint;
mod envoy_filter;
mod gateway;
mod inbound;
mod ingress;
mod l4;
mod listener;
mod locality;
mod name_table;
mod pack;
mod pb;
mod proxy;
mod route;
mod scope;
mod sidecar;
#[cfg(test)]
mod sidecar_tests;
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
use context::Context;

pub use encoded::Encoded;
pub use pack::{Packed, Resource, packed};
pub use proxy::Proxy;
pub use scope::Scope;
pub use unsupported::{unsupported, unsupported_mesh};

/// What a proxy is sent. Keys are the names under which xDS knows the resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compiled {
    /// LDS.
    pub listeners: BTreeMap<String, Encoded<Listener>>,
    /// RDS.
    pub routes: BTreeMap<String, Encoded<RouteConfiguration>>,
    /// CDS.
    pub clusters: BTreeMap<String, Encoded<Cluster>>,
    /// EDS.
    pub endpoints: BTreeMap<String, Encoded<ClusterLoadAssignment>>,
    /// SDS: credentials of a gateway from Kubernetes Secrets, `kubernetes://NAME`.
    pub secrets: BTreeMap<String, Encoded<Secret>>,
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

/// Compiles everything that `proxy` is sent: for a sidecar [`shared`] and [`own`] together.
pub fn compile(store: &Store, proxy: &Proxy) -> Compiled {
    let Some(scope) = Scope::of(store, proxy) else {
        return gateway(store, proxy);
    };
    let mut out = shared(store, &scope);
    let own = own(store, proxy);
    out.clusters.extend(own.clusters);
    out.listeners.extend(own.listeners);
    out.warnings.extend(own.warnings);
    out.warnings.sort();
    out.warnings.dedup();
    out
}

fn gateway(store: &Store, proxy: &Proxy) -> Compiled {
    let ctx = Context::new(store, proxy);
    let mut out = Compiled::default();
    cluster::outbound(&ctx, &mut out);
    cluster::fixed(&ctx, &mut out);
    gateway::gateway(&ctx, &mut out);
    envoy_filter::gateway(&ctx, &mut out);
    out.names = name_table::name_table(&ctx);
    out.warnings = ctx.into_warnings();
    out
}

/// Compiles what all sidecars of a scope are sent: their outbound side.
pub fn shared(store: &Store, scope: &Scope) -> Compiled {
    let proxy = scope.proxy();
    let ctx = Context::of_scope(store, scope, &proxy);
    let mut out = Compiled::default();
    cluster::outbound(&ctx, &mut out);
    cluster::fixed(&ctx, &mut out);
    for name in listener::outbound(&ctx, &mut out) {
        let table = route::sidecar(&ctx, &name);
        out.routes.insert(name, Encoded::new(&table));
    }
    envoy_filter::outbound(&ctx, &mut out);
    out.names = name_table::name_table(&ctx);
    out.warnings = ctx.into_warnings();
    out
}

/// Compiles what a sidecar alone is sent: its inbound side.
pub fn own(store: &Store, proxy: &Proxy) -> Compiled {
    let ctx = Context::new(store, proxy);
    let mut out = Compiled::default();
    let ports = inbound::ports(&ctx);
    cluster::inbound(&ctx, &ports, &mut out);
    listener::inbound(&ctx, &ports, &mut out);
    envoy_filter::inbound(&ctx, &ports, &mut out);
    drop(ports);
    out.warnings = ctx.into_warnings();
    out
}

/// Compiles again what [`shared`] makes of services whose endpoints have changed: their clusters and endpoints. `None` where
/// more than that depends on the endpoints.
pub fn moved<'a>(
    store: &Store,
    scope: &Scope,
    services: impl IntoIterator<Item = &'a (String, String)>,
) -> Option<Compiled> {
    let proxy = scope.proxy();
    let ctx = Context::of_scope(store, scope, &proxy);
    let mut out = Compiled::default();
    for (host, namespace) in services {
        let Some(service) = ctx.service(host) else {
            continue;
        };
        if service.namespace != *namespace {
            continue;
        }
        // Clients have listeners for the endpoints of headless services, and names.
        if service.headless {
            return None;
        }
        cluster::of_service(&ctx, service, &mut out);
    }
    envoy_filter::moved(&ctx, &mut out);
    out.warnings = ctx.into_warnings();
    Some(out)
}
