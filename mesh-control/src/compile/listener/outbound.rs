//! Outbound listeners by address and port.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::super::context::Context;
use super::super::l4;
use super::super::pb::listener;
use super::slot::Slot;
use super::wildcard;
use crate::store::claim::precedence;
use crate::store::service::{Service, ServicePort};
use crate::store::sidecar::Egress;

/// All outbound listeners except `virtualOutbound`, with the route tables that they need.
pub(super) fn listeners(ctx: &Context<'_>) -> (Vec<listener::Listener>, Vec<String>) {
    let mut slots: BTreeMap<(String, u16), Slot> = BTreeMap::new();
    let mut services: Vec<&Arc<Service>> = ctx.services().collect();
    // Where several want the same connections the first gets them.
    services.sort_by(|a, b| precedence(a, b));
    let wide = ranges(ctx, &services);
    let mut used: BTreeSet<u16> = BTreeSet::new();
    for service in services {
        for port in service.ports.iter().filter_map(|p| ctx.port_of(service, p)) {
            let port = port.as_ref();
            used.insert(port.number);
            if let Some(egress) = ctx.egress_of(service, port.number) {
                at_own_address(ctx, service, port, egress, &mut slots);
            } else if port.protocol.is_http() {
                let slot = slots.entry((wildcard(ctx).to_owned(), port.number)).or_default();
                slot.http = Some(port.number.to_string());
                let around = wide.get(&port.number).map(Vec::as_slice).unwrap_or_default();
                if !around.is_empty() {
                    let own = ctx.own_addresses_of(service, port.number);
                    let inside = own.into_iter().filter(|a| around.iter().any(|range| range.contains(a)));
                    slot.addresses.extend(inside);
                }
            } else {
                opaque(ctx, service, port, &mut slots);
            }
        }
    }
    ctx.report_idle_egress(&used);
    let routes: BTreeSet<String> = slots.values().filter_map(|s| s.http.clone()).collect();
    let listeners = slots
        .into_iter()
        .filter(|(_, slot)| slot.http.is_some() || !slot.opaque.is_empty())
        .map(|((bind, port), slot)| slot.listener(ctx, &bind, port))
        .collect();
    (listeners, routes.into_iter().collect())
}

/// At the address of a Sidecar's egress listener, which all its services share.
fn at_own_address(
    ctx: &Context<'_>,
    service: &Service,
    port: &ServicePort,
    egress: &Egress,
    slots: &mut BTreeMap<(String, u16), Slot>,
) {
    let loopback = if ctx.proxy.id.ip.is_ipv6() { "::1" } else { "127.0.0.1" };
    let bind = egress.bind.as_deref().unwrap_or(loopback);
    let slot = slots.entry((bind.to_owned(), port.number)).or_default();
    (slot.own, slot.bound) = (true, egress.bound);
    if port.protocol.is_http() || port.protocol.is_auto() {
        slot.http.get_or_insert_with(|| port.number.to_string());
    }
    if !port.protocol.is_http() {
        add(
            ctx,
            slot,
            service,
            port,
            l4::service_chains(ctx, service, port, &[], false),
        );
    }
}

fn add(ctx: &Context<'_>, slot: &mut Slot, service: &Service, port: &ServicePort, chains: Vec<listener::FilterChain>) {
    for chain in chains {
        if !slot.add(chain) {
            ctx.warn(
                format!("service {}", service.host),
                "",
                format!(
                    "port {} is already taken for connections without a known address; give the service an address, or speak HTTP or TLS there",
                    port.number
                ),
            );
        }
    }
}

/// Ranges of opaque services, by port. Envoy looks at addresses first of all, so that the chain of a range takes everything
/// that goes there, HTTP of other services too.
fn ranges(ctx: &Context<'_>, services: &[&Arc<Service>]) -> BTreeMap<u16, Vec<IpNet>> {
    let mut found: BTreeMap<u16, Vec<IpNet>> = BTreeMap::new();
    for service in services {
        for address in ctx.addresses_of(service).into_iter().filter(|a| !is_single(a)) {
            for port in service.ports.iter().filter(|p| !p.protocol.is_http()) {
                found.entry(port.number).or_default().push(address);
            }
        }
    }
    found
}

fn is_single(address: &IpNet) -> bool {
    address.prefix_len() == address.max_prefix_len()
}

/// Chains for a port that is not known to be HTTP.
fn opaque(ctx: &Context<'_>, service: &Service, port: &ServicePort, slots: &mut BTreeMap<(String, u16), Slot>) {
    for (bind, ranges) in binds(ctx, service, port) {
        let shared = bind == wildcard(ctx);
        let slot = slots.entry((bind.clone(), port.number)).or_default();
        if !shared && slot.owner.get_or_insert_with(|| service.host.clone()) != &service.host {
            let other = slot.owner.as_deref().unwrap_or_default();
            ctx.warn(
                &service.object,
                "",
                format!(
                    "{bind} port {} belongs to {other}, which comes first; connections to it do not reach {}",
                    port.number, service.host
                ),
            );
            continue;
        }
        if port.protocol.is_auto() {
            // The table of a shared port knows this host too; an address of its own leads to this host only.
            let name = if shared {
                port.number.to_string()
            } else {
                format!("{}:{}", service.host, port.number)
            };
            slot.http.get_or_insert(name);
        }
        add(
            ctx,
            slot,
            service,
            port,
            l4::service_chains(ctx, service, port, &ranges, shared),
        );
    }
}

/// Addresses to listen on for a service port, each with the ranges that its chains match.
fn binds(ctx: &Context<'_>, service: &Service, port: &ServicePort) -> Vec<(String, Vec<IpNet>)> {
    if service.external_name.is_some() {
        // Nothing tells its connections from others on the port.
        return Vec::new();
    }
    if service.headless {
        // Clients address the Pods themselves.
        let endpoints = ctx.store.endpoints(service).get(&port.number);
        let addresses: BTreeSet<&str> = endpoints
            .into_iter()
            .flatten()
            .filter(|e| e.port == port.number && !ctx.addresses.contains(&e.address))
            .map(|e| e.address.as_str())
            .collect();
        return addresses.into_iter().map(|a| (a.to_owned(), Vec::new())).collect();
    }
    let addresses = ctx.own_addresses_of(service, port.number);
    if addresses.is_empty() && !ctx.addresses_of(service).is_empty() {
        // All are another's. Without any it would take whatever comes to the port.
        return Vec::new();
    }
    let (single, ranges): (Vec<IpNet>, Vec<IpNet>) = addresses.into_iter().partition(is_single);
    let mut binds: Vec<(String, Vec<IpNet>)> = single.iter().map(|a| (a.addr().to_string(), Vec::new())).collect();
    if !ranges.is_empty() || binds.is_empty() {
        binds.push((wildcard(ctx).to_owned(), ranges));
    }
    binds
}
