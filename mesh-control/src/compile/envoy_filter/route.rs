//! Patches of route tables, virtual hosts and routes.

use std::collections::BTreeMap;

use mesh_api::istio::{ApplyTo, PatchContext, PatchOperation};

use super::super::Encoded;
use super::super::pb::route;
use super::matching::{self, ServicePorts};
use super::place::place;
use super::{Patches, Selected, change};

/// Kinds of patches that look into route tables.
pub(super) const KINDS: [ApplyTo; 3] = [ApplyTo::RouteConfiguration, ApplyTo::VirtualHost, ApplyTo::HttpRoute];

/// Applies all patches to route tables.
pub(super) fn tables(
    patches: &Patches<'_>,
    side: PatchContext,
    ports: &ServicePorts,
    tables: &mut BTreeMap<String, Encoded<route::RouteConfiguration>>,
) {
    for (name, encoded) in tables {
        let here = |s: Selected<'_>| matching::table(side, name, s.patch.matches.route_configuration.as_ref(), ports);
        if KINDS.iter().any(|kind| patches.at(side, *kind).any(here)) {
            change(encoded, |table| self::table(patches, side, ports, table));
        }
    }
}

/// Applies all patches to a route table.
pub(super) fn table(
    patches: &Patches<'_>,
    side: PatchContext,
    ports: &ServicePorts,
    table: &mut route::RouteConfiguration,
) {
    let name = table.name.clone();
    let here = |apply_to| {
        let all = patches.at(side, apply_to);
        all.filter(|s| matching::table(side, &name, s.patch.matches.route_configuration.as_ref(), ports))
            .collect::<Vec<Selected<'_>>>()
    };
    for from in here(ApplyTo::RouteConfiguration) {
        patches.merge(from, table);
    }
    let (of_hosts, of_routes) = (here(ApplyTo::VirtualHost), here(ApplyTo::HttpRoute));
    if of_hosts.is_empty() && of_routes.is_empty() {
        return;
    }
    table.virtual_hosts.retain_mut(|host| {
        for from in &of_hosts {
            if !matching::virtual_host(host, from.patch) {
                continue;
            }
            match from.patch.operation {
                PatchOperation::Remove => return false,
                PatchOperation::Replace => {
                    if let Some(new) = Patches::value(*from) {
                        *host = new;
                    }
                }
                _ => patches.merge(*from, host),
            }
        }
        routes(patches, &of_routes, host);
        true
    });
    let added = of_hosts.iter().filter(|s| s.is(PatchOperation::Add));
    table.virtual_hosts.extend(added.filter_map(|s| Patches::value(*s)));
}

fn routes(patches: &Patches<'_>, of_routes: &[Selected<'_>], host: &mut route::VirtualHost) {
    let here: Vec<Selected<'_>> = of_routes
        .iter()
        .filter(|s| matching::virtual_host(host, s.patch))
        .copied()
        .collect();
    if here.is_empty() {
        return;
    }
    host.routes.retain_mut(|route| {
        for from in &here {
            if !matching::route(route, from.patch) {
                continue;
            }
            if from.is(PatchOperation::Remove) {
                return false;
            }
            patches.merge(*from, route);
        }
        true
    });
    for from in here {
        let named = matching::names_route(from.patch);
        let is = |route: &route::Route| matching::route(route, from.patch);
        match from.patch.operation {
            PatchOperation::Add | PatchOperation::InsertBefore | PatchOperation::InsertAfter => {
                place(
                    &mut host.routes,
                    from.patch.operation,
                    || Patches::value(from),
                    named,
                    is,
                );
            }
            // Where a route is named, its host is the one that has it.
            PatchOperation::InsertFirst if !named || host.routes.iter().any(is) => {
                place(
                    &mut host.routes,
                    PatchOperation::InsertFirst,
                    || Patches::value(from),
                    named,
                    is,
                );
            }
            _ => {}
        }
    }
}
