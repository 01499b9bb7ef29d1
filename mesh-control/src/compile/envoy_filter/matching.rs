//! Which resources, and which parts of them, a patch is for.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::istio::{
    ApplyTo, ClusterMatch, FilterChainMatch, ListenerMatch, PatchContext, RouteConfigurationMatch, RouteMatchAction,
};
use mesh_api::names::{self, ClusterName};

use super::super::pb::{core, hcm, listener, route};
use crate::store::envoy_filter::Patch;

/// Ports of a gateway's Services by the gateway's own.
pub(super) type ServicePorts = BTreeMap<u16, BTreeSet<u16>>;

/// Whether a name, number or the like is the one that is asked for; nothing asked for is anything.
fn asked(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || wanted == found
}

/// By the whole name, else by the parts of it.
pub(super) fn cluster(name: &str, matches: Option<&ClusterMatch>, hosts: &dyn Fn(&str) -> Vec<String>) -> bool {
    let Some(matches) = matches else { return true };
    if !matches.name.is_empty() {
        return matches.name == name;
    }
    let (port, subset, host) = match ClusterName::parse(name) {
        Some(parts) => (parts.port, parts.subset, parts.host),
        None => (0, "", ""),
    };
    asked(&matches.subset, subset)
        && (asked(&matches.service, host) || hosts(name).contains(&matches.service))
        && (matches.port_number == 0 || matches.port_number == u32::from(port))
}

/// A route table by its name, in which Istio writes what it is for.
pub(super) fn table(
    side: PatchContext,
    name: &str,
    matches: Option<&RouteConfigurationMatch>,
    ports: &ServicePorts,
) -> bool {
    let Some(matches) = matches else { return true };
    if !asked(&matches.name, name) {
        return false;
    }
    if side != PatchContext::Gateway {
        let port = match ClusterName::parse(name) {
            Some(inbound) => inbound.port,
            None => name.parse().unwrap_or_default(),
        };
        return matches.port_number == 0 || matches.port_number == u32::from(port);
    }
    // `http.PORT`, `https.PORT.PORTNAME.GATEWAY.NAMESPACE`, both perhaps with an address behind.
    let mut parts = name.split('.');
    let https = parts.next() == Some("https");
    let port: u16 = parts.next().and_then(|p| p.parse().ok()).unwrap_or_default();
    let (port_name, gateway) = match (https, parts.next(), parts.next(), parts.next()) {
        (true, Some(port), Some(name), Some(namespace)) => (port, format!("{namespace}/{name}")),
        _ => ("", String::new()),
    };
    let at_port = || match ports.get(&port) {
        Some(services) => services.iter().any(|p| u32::from(*p) == matches.port_number),
        None => u32::from(port) == matches.port_number,
    };
    (matches.port_number == 0 || at_port()) && asked(&matches.port_name, port_name) && asked(&matches.gateway, &gateway)
}

/// A virtual host of a table that matches.
pub(super) fn virtual_host(host: &route::VirtualHost, patch: &Patch) -> bool {
    let table = patch.matches.route_configuration.as_ref();
    let Some(matches) = table.and_then(|t| t.vhost.as_ref()) else {
        return true;
    };
    asked(&matches.name, &host.name) && (matches.domain_name.is_empty() || host.domains.contains(&matches.domain_name))
}

/// Whether the patch says which route it means.
pub(super) fn names_route(patch: &Patch) -> bool {
    let table = patch.matches.route_configuration.as_ref();
    let host = table.and_then(|t| t.vhost.as_ref());
    host.is_some_and(|h| h.route.is_some())
}

/// A route of a virtual host that matches.
pub(super) fn route(route: &route::Route, patch: &Patch) -> bool {
    use route::route::Action;
    let table = patch.matches.route_configuration.as_ref();
    let host = table.and_then(|t| t.vhost.as_ref());
    let Some(matches) = host.and_then(|h| h.route.as_ref()) else {
        return true;
    };
    let action = match &route.action {
        Some(Action::Route(_)) => RouteMatchAction::Route,
        Some(Action::Redirect(_)) => RouteMatchAction::Redirect,
        Some(Action::DirectResponse(_)) => RouteMatchAction::DirectResponse,
        _ => RouteMatchAction::Any,
    };
    let action = matches.action == RouteMatchAction::Any || matches.action == action;
    asked(&matches.name, &route.name) && action
}

/// The two that captured traffic comes to: their ports are those of their filter chains.
fn is_virtual(listener: &listener::Listener) -> bool {
    listener.name == names::VIRTUAL_INBOUND || listener.name == names::VIRTUAL_OUTBOUND
}

fn of_listener(patch: &Patch) -> Option<&ListenerMatch> {
    patch.matches.listener.as_ref()
}

fn of_chain(patch: &Patch) -> Option<&FilterChainMatch> {
    of_listener(patch)?.filter_chain.as_ref()
}

/// By name and port.
pub(super) fn listener(listener: &listener::Listener, patch: &Patch) -> bool {
    let Some(matches) = of_listener(patch) else { return true };
    if !asked(&matches.name, &listener.name) {
        return false;
    }
    if matches.port_number == 0 || (patch.apply_to != ApplyTo::Listener && is_virtual(listener)) {
        return true;
    }
    let address = listener.address.as_ref().and_then(|a| a.address.as_ref());
    let Some(core::address::Address::SocketAddress(address)) = address else {
        return false;
    };
    use core::socket_address::PortSpecifier;
    matches!(address.port_specifier, Some(PortSpecifier::PortValue(port)) if port == matches.port_number)
}

/// A filter chain of a listener that matches.
pub(super) fn chain(listener: &listener::Listener, chain: &listener::FilterChain, patch: &Patch) -> bool {
    let Some(matches) = of_listener(patch) else { return true };
    let found = chain.filter_chain_match.as_ref();
    let port = found.and_then(|m| m.destination_port).map_or(0, |p| p.value);
    if is_virtual(listener) && matches.port_number > 0 && port != matches.port_number {
        return false;
    }
    let Some(matches) = &matches.filter_chain else {
        return true;
    };
    let names = found.map(|m| m.server_names.as_slice()).unwrap_or_default();
    let protocols = found.map(|m| m.application_protocols.as_slice()).unwrap_or_default();
    let all_protocols = || {
        let mut wanted = matches.application_protocols.split(',');
        wanted.all(|p| protocols.iter().any(|found| found == p))
    };
    asked(&matches.name, &chain.name)
        && (matches.sni.is_empty() || names.contains(&matches.sni))
        && asked(
            &matches.transport_protocol,
            found.map_or("", |m| m.transport_protocol.as_str()),
        )
        && (matches.application_protocols.is_empty() || all_protocols())
        && (matches.destination_port == 0 || matches.destination_port == port)
}

/// Whether the patch says which listener filter it means.
pub(super) fn names_listener_filter(patch: &Patch) -> bool {
    of_listener(patch).is_some_and(|m| !m.listener_filter.is_empty())
}

/// A listener filter of a listener that matches.
pub(super) fn listener_filter(filter: &listener::ListenerFilter, patch: &Patch) -> bool {
    of_listener(patch).is_none_or(|m| asked(&m.listener_filter, &filter.name))
}

/// Whether the patch says which network filter it means.
pub(super) fn names_network_filter(patch: &Patch) -> bool {
    of_chain(patch).is_some_and(|m| m.filter.is_some())
}

/// A network filter of a chain that matches.
pub(super) fn network_filter(filter: &listener::Filter, patch: &Patch) -> bool {
    let wanted = of_chain(patch).and_then(|m| m.filter.as_ref());
    wanted.is_none_or(|m| m.name == filter.name)
}

/// Whether the patch says which HTTP filter it means.
pub(super) fn names_http_filter(patch: &Patch) -> bool {
    let filter = of_chain(patch).and_then(|m| m.filter.as_ref());
    filter.is_some_and(|m| m.sub_filter.is_some())
}

/// An HTTP filter of a connection manager that matches.
pub(super) fn http_filter(filter: &hcm::HttpFilter, patch: &Patch) -> bool {
    let wanted = of_chain(patch).and_then(|m| m.filter.as_ref());
    let wanted = wanted.and_then(|m| m.sub_filter.as_ref());
    wanted.is_none_or(|m| m.name == filter.name)
}
