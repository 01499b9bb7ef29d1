//! Patches of listeners, and of the chains and filters in them.

use std::collections::BTreeMap;

use mesh_api::envoy::{patch, unpack};
use mesh_api::istio::{ApplyTo, PatchContext, PatchOperation};

use super::super::Encoded;
use super::super::pb::{Any, hcm, listener, pack};
use super::cluster::merge_socket;
use super::place::place;
use super::{Patches, Selected, matching, route};

type Listeners = BTreeMap<String, Encoded<listener::Listener>>;

/// Kinds of patches that look into filter chains.
const INSIDE: [ApplyTo; 3] = [ApplyTo::FilterChain, ApplyTo::NetworkFilter, ApplyTo::HttpFilter];

/// Merges into a filter: what is inside of its configuration is merged, not its bytes.
macro_rules! merge_filter {
    ($patches:expr, $from:expr, $filter:expr, $typed:path) => {{
        let mut config = None;
        $filter.config_type = match $filter.config_type.take() {
            Some($typed(any)) => {
                config = Some(any);
                None
            }
            other => other,
        };
        let name = $filter.name.clone();
        merge_around($patches, $from, &name, $filter, &mut config);
        if let Some(config) = config {
            $filter.config_type = Some($typed(config));
        }
    }};
}

/// Applies all patches to listeners, and adds some. One that says no context is added to outbound traffic.
pub(super) fn listeners(patches: &Patches<'_>, side: PatchContext, listeners: &mut Listeners) {
    let inside = INSIDE.iter().any(|kind| patches.has(side, *kind));
    let inline = route::KINDS.iter().any(|kind| patches.has(side, *kind));
    let mut renamed = Vec::new();
    listeners.retain(|name, encoded| {
        let around = [ApplyTo::Listener, ApplyTo::ListenerFilter].into_iter();
        let mut around = around.flat_map(|kind| patches.at(side, kind));
        if !inside && !inline && !around.any(|s| !s.is(PatchOperation::Add) || s.patch.apply_to != ApplyTo::Listener) {
            return true;
        }
        // Only messages are encoded.
        let Ok(mut listener) = encoded.message() else {
            return true;
        };
        if inline {
            inline_tables(patches, side, &mut listener);
        }
        for from in patches.at(side, ApplyTo::Listener) {
            if from.is(PatchOperation::Add) || !matching::listener(&listener, from.patch) {
                continue;
            }
            if from.is(PatchOperation::Remove) {
                return false;
            }
            patches.merge(from, &mut listener);
        }
        listener_filters(patches, side, &mut listener);
        if inside {
            chains(patches, side, &mut listener);
        }
        *encoded = Encoded::new(&listener);
        if listener.name != *name {
            renamed.push((listener.name, encoded.clone()));
            return false;
        }
        true
    });
    for (name, listener) in renamed {
        listeners.entry(name).or_insert(listener);
    }
    for from in patches
        .at(side, ApplyTo::Listener)
        .filter(|s| s.is(PatchOperation::Add))
    {
        if from.patch.matches.context == PatchContext::Any && side == PatchContext::SidecarInbound {
            continue;
        }
        let Some(new) = Patches::value::<listener::Listener>(from) else {
            continue;
        };
        if listeners.contains_key(&new.name) {
            patches.warn(
                from,
                format!(
                    "there is a listener {} already, so it is not added; use MERGE",
                    new.name
                ),
            );
        } else {
            listeners.insert(new.name.clone(), Encoded::new(&new));
        }
    }
}

fn listener_filters(patches: &Patches<'_>, side: PatchContext, listener: &mut listener::Listener) {
    use listener::listener_filter::ConfigType;
    for from in patches.at(side, ApplyTo::ListenerFilter) {
        if !matching::listener(listener, from.patch) {
            continue;
        }
        let named = matching::names_listener_filter(from.patch);
        let is = |filter: &listener::ListenerFilter| matching::listener_filter(filter, from.patch);
        if from.lists().is_none() {
            place(
                &mut listener.listener_filters,
                from.patch.operation,
                || Patches::value(from),
                named,
                is,
            );
            continue;
        }
        for filter in listener.listener_filters.iter_mut().filter(|f| is(f)) {
            merge_filter!(patches, from, filter, ConfigType::TypedConfig);
        }
    }
}

fn chains(patches: &Patches<'_>, side: PatchContext, listener: &mut listener::Listener) {
    let mut list = std::mem::take(&mut listener.filter_chains);
    list.retain_mut(|chain| filter_chain(patches, side, listener, chain));
    if let Some(mut last) = listener.default_filter_chain.take()
        && filter_chain(patches, side, listener, &mut last)
    {
        listener.default_filter_chain = Some(last);
    }
    let added = patches
        .at(side, ApplyTo::FilterChain)
        .filter(|s| s.is(PatchOperation::Add));
    let added = added.filter(|s| matching::listener(listener, s.patch));
    list.extend(added.filter_map(Patches::value));
    listener.filter_chains = list;
}

/// Patches a chain; `false` if it goes.
fn filter_chain(
    patches: &Patches<'_>,
    side: PatchContext,
    listener: &listener::Listener,
    chain: &mut listener::FilterChain,
) -> bool {
    let here = |from: &Selected<'_>, chain: &listener::FilterChain| {
        matching::listener(listener, from.patch) && matching::chain(listener, chain, from.patch)
    };
    for from in patches.at(side, ApplyTo::FilterChain) {
        if from.is(PatchOperation::Add) || !here(&from, chain) {
            continue;
        }
        if from.is(PatchOperation::Remove) {
            return false;
        }
        merge_chain(patches, from, chain);
    }
    for from in patches.at(side, ApplyTo::NetworkFilter).filter(|s| s.lists().is_none()) {
        if here(&from, chain) {
            let named = matching::names_network_filter(from.patch);
            let is = |filter: &listener::Filter| matching::network_filter(filter, from.patch);
            place(
                &mut chain.filters,
                from.patch.operation,
                || Patches::value(from),
                named,
                is,
            );
        }
    }
    let mut filters = std::mem::take(&mut chain.filters);
    for filter in &mut filters {
        for from in patches.at(side, ApplyTo::NetworkFilter).filter(|s| s.lists().is_some()) {
            if here(&from, chain) && matching::network_filter(filter, from.patch) {
                merge_filter!(patches, from, filter, listener::filter::ConfigType::TypedConfig);
            }
        }
        let in_http = patches.at(side, ApplyTo::HttpFilter);
        let in_http: Vec<Selected<'_>> = in_http
            .filter(|s| here(s, chain) && matching::network_filter(filter, s.patch))
            .collect();
        if !in_http.is_empty() {
            change_manager(filter, |manager| http_filters(patches, &in_http, manager));
        }
    }
    chain.filters = filters;
    true
}

fn merge_chain(patches: &Patches<'_>, from: Selected<'_>, chain: &mut listener::FilterChain) {
    let new: Option<listener::FilterChain> = Patches::value(from);
    let Some(socket) = new.and_then(|c| c.transport_socket) else {
        patches.merge(from, chain);
        return;
    };
    if let (Some(value), Some(lists)) = (&from.patch.value, from.lists()) {
        let mut rest = value.clone();
        rest.clear_field_by_name("transport_socket");
        if let Err(e) = patch::merge_into(chain, &rest, lists) {
            patches.warn(from, format!("cannot be merged: {e}"));
        }
    }
    merge_socket(patches, from, &mut chain.transport_socket, socket);
}

/// Merges into a filter whose configuration was taken out, and into the configuration.
fn merge_around<M: prost::Message + prost::Name + Default>(
    patches: &Patches<'_>,
    from: Selected<'_>,
    name: &str,
    filter: &mut M,
    config: &mut Option<Any>,
) {
    let (Some(value), Some(lists)) = (&from.patch.value, from.lists()) else {
        return;
    };
    let mut rest = value.clone();
    let new = rest.take_field_by_name("typed_config");
    if let Err(e) = patch::merge_into(filter, &rest, lists) {
        patches.warn(from, format!("cannot be merged: {e}"));
    }
    let new = new
        .as_ref()
        .and_then(|v| v.as_message())
        .and_then(|m| m.transcode_to::<Any>().ok());
    if let Some(new) = new {
        patches.merge_any(from, name, config, new);
    }
}

/// Changes the connection manager that a network filter is, if it is one.
fn change_manager(filter: &mut listener::Filter, change: impl FnOnce(&mut hcm::HttpConnectionManager)) {
    use listener::filter::ConfigType;
    let Some(ConfigType::TypedConfig(any)) = &mut filter.config_type else {
        return;
    };
    if let Ok(mut manager) = unpack::<hcm::HttpConnectionManager>(any) {
        change(&mut manager);
        *any = pack(&manager);
    }
}

fn http_filters(patches: &Patches<'_>, here: &[Selected<'_>], manager: &mut hcm::HttpConnectionManager) {
    use hcm::http_filter::ConfigType;
    for from in here.iter().copied().filter(|s| s.lists().is_none()) {
        let named = matching::names_http_filter(from.patch);
        let is = |filter: &hcm::HttpFilter| matching::http_filter(filter, from.patch);
        place(
            &mut manager.http_filters,
            from.patch.operation,
            || Patches::value(from),
            named,
            is,
        );
    }
    for filter in &mut manager.http_filters {
        for from in here.iter().copied().filter(|s| s.lists().is_some()) {
            if !matching::http_filter(filter, from.patch) {
                continue;
            }
            merge_filter!(patches, from, filter, ConfigType::TypedConfig);
        }
    }
}

/// Patches the route tables that stand inside of connection managers, which inbound ones do.
fn inline_tables(patches: &Patches<'_>, side: PatchContext, listener: &mut listener::Listener) {
    use hcm::http_connection_manager::RouteSpecifier;
    let no_ports = matching::ServicePorts::new();
    let chains = listener
        .filter_chains
        .iter_mut()
        .chain(&mut listener.default_filter_chain);
    for filter in chains.flat_map(|c| &mut c.filters) {
        change_manager(filter, |manager| {
            if let Some(RouteSpecifier::RouteConfig(table)) = &mut manager.route_specifier {
                route::table(patches, side, &no_ports, table);
            }
        });
    }
}
