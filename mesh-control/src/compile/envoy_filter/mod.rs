//! EnvoyFilter: patches of what the other kinds were compiled to.
//!
//! The order is Istio's: EnvoyFilters of the root namespace before those of the workload's own, each by priority and age; in
//! a listener what is outside before what is inside, and of filters additions and removals before merges.

mod cluster;
mod listener;
mod matching;
mod place;
mod route;
#[cfg(test)]
mod tests;

use mesh_api::envoy::json::Json;
use mesh_api::envoy::patch::{self, Lists};
use mesh_api::istio::{ApplyTo, PatchContext, PatchOperation};
use mesh_api::names;
use prost::{Message, Name};

use super::context::Context;
use super::inbound::InboundPort;
use super::pb::Any;
use super::{Compiled, Encoded};
use crate::store::envoy_filter::{Filter, Patch, VERSION};
use crate::store::service::TargetPort;
use matching::ServicePorts;

/// Patches the outbound side of a sidecar.
pub(super) fn outbound(ctx: &Context<'_>, out: &mut Compiled) {
    let patches = Patches::of(ctx);
    if patches.is_empty() {
        return;
    }
    let side = PatchContext::SidecarOutbound;
    cluster::clusters(&patches, &outbound_side, &|_| Vec::new(), &mut out.clusters);
    cluster::add(&patches, side, &mut out.clusters);
    route::tables(&patches, side, &ServicePorts::new(), &mut out.routes);
    listener::listeners(&patches, side, &mut out.listeners);
}

/// Patches the inbound side of a sidecar.
pub(super) fn inbound(ctx: &Context<'_>, ports: &[InboundPort<'_>], out: &mut Compiled) {
    let patches = Patches::of(ctx);
    if patches.is_empty() {
        return;
    }
    let side = PatchContext::SidecarInbound;
    let hosts = |name: &str| {
        let port = ports.iter().find(|p| names::inbound_cluster(p.port) == name);
        let services = port.into_iter().flat_map(|p| &p.services);
        services.map(|(service, _)| service.host.clone()).collect()
    };
    cluster::clusters(&patches, &|_| side, &hosts, &mut out.clusters);
    cluster::add(&patches, side, &mut out.clusters);
    listener::listeners(&patches, side, &mut out.listeners);
}

/// Patches a gateway.
pub(super) fn gateway(ctx: &Context<'_>, out: &mut Compiled) {
    let patches = Patches::of(ctx);
    if patches.is_empty() {
        return;
    }
    let side = PatchContext::Gateway;
    cluster::clusters(&patches, &|_| side, &|_| Vec::new(), &mut out.clusters);
    cluster::add(&patches, side, &mut out.clusters);
    route::tables(&patches, side, &service_ports(ctx), &mut out.routes);
    listener::listeners(&patches, side, &mut out.listeners);
}

/// Patches the clusters of services whose endpoints have changed.
pub(super) fn moved(ctx: &Context<'_>, out: &mut Compiled) {
    let patches = Patches::of(ctx);
    if !patches.is_empty() {
        cluster::clusters(&patches, &outbound_side, &|_| Vec::new(), &mut out.clusters);
    }
}

/// The side that a cluster of a sidecar's shared part belongs to.
fn outbound_side(name: &str) -> PatchContext {
    if name == names::INBOUND_PASSTHROUGH_CLUSTER {
        PatchContext::SidecarInbound
    } else {
        PatchContext::SidecarOutbound
    }
}

/// Ports of the gateway's Services by the port that the gateway itself listens on.
fn service_ports(ctx: &Context<'_>) -> ServicePorts {
    let mut out = ServicePorts::new();
    for service in ctx.store.services_of(ctx.namespace, ctx.labels, &ctx.addresses) {
        for port in &service.ports {
            let target = match &port.target {
                TargetPort::Number(target) => Some(*target),
                TargetPort::Name(name) => ctx.named_port(name),
            };
            if let Some(target) = target {
                out.entry(target).or_default().insert(port.number);
            }
        }
    }
    out
}

/// Changes a message that is encoded already.
fn change<M: Message + Default>(encoded: &mut Encoded<M>, change: impl FnOnce(&mut M)) {
    // Only messages are encoded.
    if let Ok(mut message) = encoded.message() {
        change(&mut message);
        *encoded = Encoded::new(&message);
    }
}

/// The patches for one proxy, in their order.
struct Patches<'a> {
    ctx: &'a Context<'a>,
    list: Vec<Selected<'a>>,
}

/// A patch, and the object that it is from.
#[derive(Clone, Copy)]
struct Selected<'a> {
    filter: &'a Filter,
    patch: &'a Patch,
}

impl<'a> Patches<'a> {
    fn of(ctx: &'a Context<'a>) -> Self {
        let filters = ctx.envoy_filters.iter().copied();
        let all = filters.flat_map(|filter| filter.patches.iter().map(move |patch| Selected { filter, patch }));
        Patches {
            ctx,
            list: all.filter(|s| s.is_for(ctx)).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those that change one kind of thing on one side.
    fn at(&self, side: PatchContext, apply_to: ApplyTo) -> impl Iterator<Item = Selected<'a>> + Clone {
        let list = self.list.iter().copied();
        list.filter(move |s| {
            let context = s.patch.matches.context;
            s.patch.apply_to == apply_to && (context == side || context == PatchContext::Any)
        })
    }

    fn has(&self, side: PatchContext, apply_to: ApplyTo) -> bool {
        self.at(side, apply_to).next().is_some()
    }

    /// Reports why a patch was not applied where it should have been.
    fn warn(&self, from: Selected<'_>, message: impl Into<String>) {
        let field = format!("spec.configPatches[{}].patch.value", from.patch.index);
        self.ctx.warn(from.filter.object(), field, message);
    }

    /// Merges a patch into a message.
    fn merge<M: Message + Name + Default>(&self, from: Selected<'_>, target: &mut M) {
        if let (Some(value), Some(lists)) = (&from.patch.value, from.lists())
            && let Err(e) = patch::merge_into(target, value, lists)
        {
            self.warn(from, format!("cannot be merged: {e}"));
        }
    }

    /// Merges what is inside an `Any`.
    fn merge_any(&self, from: Selected<'_>, what: &str, target: &mut Option<Any>, new: Any) {
        let Some(lists) = from.lists() else { return };
        let Some(target) = target else {
            *target = Some(new);
            return;
        };
        if let Err(e) = patch::merge_any(Json::shared(), target, &new, lists) {
            self.warn(from, format!("typed_config is not merged into {what}: {e}"));
        }
    }

    /// The value as a message.
    fn value<M: Message + Default>(from: Selected<'_>) -> Option<M> {
        let value = from.patch.value.as_ref()?;
        M::decode(value.encode_to_vec().as_slice()).ok()
    }
}

impl Selected<'_> {
    fn is_for(&self, ctx: &Context<'_>) -> bool {
        if self.patch.envoy_only && !ctx.proxy.envoy {
            return false;
        }
        let Some(proxy) = &self.patch.matches.proxy else {
            return true;
        };
        if let Some(version) = &self.patch.version
            && !ctx.proxy.meta(VERSION).is_some_and(|v| version.is_match(v))
        {
            return false;
        }
        proxy
            .metadata
            .iter()
            .all(|(key, value)| ctx.proxy.meta(key) == Some(value))
    }

    /// What a merge does with lists; `None` if it is no merge.
    fn lists(&self) -> Option<Lists> {
        match self.patch.operation {
            PatchOperation::Merge => Some(Lists::Append),
            PatchOperation::MergeAndReplaceList => Some(Lists::Replace),
            _ => None,
        }
    }

    fn is(&self, operation: PatchOperation) -> bool {
        self.patch.operation == operation
    }
}
