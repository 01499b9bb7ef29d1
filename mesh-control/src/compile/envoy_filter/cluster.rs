//! Patches of clusters.

use std::collections::BTreeMap;

use mesh_api::envoy::json::Json;
use mesh_api::envoy::patch::{self, Lists};
use mesh_api::istio::{ApplyTo, PatchContext, PatchOperation};
use prost::{Message, Name};
use prost_reflect::DynamicMessage;

use super::super::Encoded;
use super::super::pb::{cluster, core};
use super::{Patches, Selected, matching};

type Clusters = BTreeMap<String, Encoded<cluster::Cluster>>;

/// Applies all patches but additions. `side` says which side a cluster belongs to, `hosts` the services of an inbound one.
pub(super) fn clusters(
    patches: &Patches<'_>,
    side: &dyn Fn(&str) -> PatchContext,
    hosts: &dyn Fn(&str) -> Vec<String>,
    clusters: &mut Clusters,
) {
    let mut renamed = Vec::new();
    clusters.retain(|name, encoded| {
        let here = patches
            .at(side(name), ApplyTo::Cluster)
            .filter(|s| !s.is(PatchOperation::Add));
        let mut here = here
            .filter(|s| matching::cluster(name, s.patch.matches.cluster.as_ref(), hosts))
            .peekable();
        if here.peek().is_none() {
            return true;
        }
        // Only messages are encoded.
        let Ok(mut cluster) = encoded.message() else {
            return true;
        };
        for from in here {
            if from.is(PatchOperation::Remove) {
                return false;
            }
            merge(patches, from, &mut cluster);
        }
        fold_thresholds(&mut cluster);
        *encoded = Encoded::new(&cluster);
        if cluster.name != *name {
            renamed.push((cluster.name, encoded.clone()));
            return false;
        }
        true
    });
    for (name, cluster) in renamed {
        clusters.entry(name).or_insert(cluster);
    }
}

/// Adds clusters. One that says no context is for outbound traffic.
pub(super) fn add(patches: &Patches<'_>, side: PatchContext, clusters: &mut Clusters) {
    for from in patches.at(side, ApplyTo::Cluster).filter(|s| s.is(PatchOperation::Add)) {
        if from.patch.matches.context == PatchContext::Any && side == PatchContext::SidecarInbound {
            continue;
        }
        let Some(new) = Patches::value::<cluster::Cluster>(from) else {
            continue;
        };
        if clusters.contains_key(&new.name) {
            patches.warn(
                from,
                format!("there is a cluster {} already, so it is not added; use MERGE", new.name),
            );
        } else {
            clusters.insert(new.name.clone(), Encoded::new(&new));
        }
    }
}

fn merge(patches: &Patches<'_>, from: Selected<'_>, cluster: &mut cluster::Cluster) {
    let Some(value) = &from.patch.value else { return };
    let new: Option<cluster::Cluster> = Patches::value(from);
    let Some(socket) = new.and_then(|c| c.transport_socket) else {
        patches.merge(from, cluster);
        return;
    };
    // Sockets are merged by what is inside, which protobuf's merge does not do; the rest as ever.
    let mut rest = value.clone();
    rest.clear_field_by_name("transport_socket");
    if let Some(lists) = from.lists()
        && let Err(e) = patch::merge_into(cluster, &rest, lists)
    {
        patches.warn(from, format!("cannot be merged: {e}"));
    }
    if cluster.transport_socket_matches.is_empty() {
        merge_socket(patches, from, &mut cluster.transport_socket, socket);
        return;
    }
    let inner = cluster
        .transport_socket_matches
        .iter_mut()
        .map(|m| &mut m.transport_socket)
        .find(|s| s.as_ref().is_some_and(|s| s.name == socket.name));
    match inner {
        Some(inner) => merge_socket(patches, from, inner, socket),
        None => patches.warn(
            from,
            format!(
                "transport_socket is not applied to {}, which chooses among several, none of them {}",
                cluster.name, socket.name
            ),
        ),
    }
}

/// Merges into a socket of the same name, and replaces another.
pub(super) fn merge_socket(
    patches: &Patches<'_>,
    from: Selected<'_>,
    target: &mut Option<core::TransportSocket>,
    new: core::TransportSocket,
) {
    use core::transport_socket::ConfigType;
    match target {
        Some(target) if target.name == new.name => {
            let Some(ConfigType::TypedConfig(new)) = new.config_type else {
                return;
            };
            let mut inner = target.config_type.take().map(|ConfigType::TypedConfig(any)| any);
            patches.merge_any(from, &target.name, &mut inner, new);
            target.config_type = inner.map(ConfigType::TypedConfig);
        }
        _ => *target = Some(new),
    }
}

/// Envoy reads the first threshold of a priority and no other, but a merge appends: what a patch says of a priority that has
/// a threshold already goes into that one.
fn fold_thresholds(cluster: &mut cluster::Cluster) {
    use cluster::circuit_breakers::Thresholds;
    let Some(breakers) = &mut cluster.circuit_breakers else {
        return;
    };
    let mut folded: Vec<Thresholds> = Vec::new();
    for next in std::mem::take(&mut breakers.thresholds) {
        match folded.iter_mut().find(|t| t.priority == next.priority) {
            Some(first) => {
                let dynamic = Json::shared()
                    .descriptor(&Thresholds::full_name())
                    .ok()
                    .and_then(|kind| DynamicMessage::decode(kind, next.encode_to_vec().as_slice()).ok());
                // Both are of our own making, so nothing here can fail.
                if let Some(next) = dynamic {
                    let _ = patch::merge_into(first, &next, Lists::Append);
                }
            }
            None => folded.push(next),
        }
    }
    breakers.thresholds = folded;
}
