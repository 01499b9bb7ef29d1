//! Outbound listeners by address and port.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::super::context::Context;
use super::super::l4;
use super::super::pb::listener;
use super::slot::Slot;
use super::wildcard;
use crate::store::service::{Service, ServicePort};

/// All outbound listeners except `virtualOutbound`, with the route tables that they need.
pub(super) fn listeners(ctx: &Context<'_>) -> (Vec<listener::Listener>, Vec<String>) {
    let mut slots: BTreeMap<(String, u16), Slot> = BTreeMap::new();
    for service in ctx.services() {
        for port in &service.ports {
            if port.protocol.is_http() {
                let slot = slots.entry((wildcard(ctx).to_owned(), port.number)).or_default();
                slot.http = Some(port.number.to_string());
            } else {
                opaque(ctx, service, port, &mut slots);
            }
        }
    }
    let routes: BTreeSet<String> = slots.values().filter_map(|s| s.http.clone()).collect();
    let listeners = slots
        .into_iter()
        .filter(|(_, slot)| slot.http.is_some() || !slot.opaque.is_empty())
        .map(|((bind, port), slot)| slot.listener(ctx, &bind, port))
        .collect();
    (listeners, routes.into_iter().collect())
}

/// Chains for a port that is not known to be HTTP.
fn opaque(ctx: &Context<'_>, service: &Service, port: &ServicePort, slots: &mut BTreeMap<(String, u16), Slot>) {
    for (bind, ranges) in binds(ctx, service, port) {
        let shared = bind == wildcard(ctx);
        let slot = slots.entry((bind, port.number)).or_default();
        if port.protocol.is_auto() {
            // The table of a shared port knows this host too; an address of its own leads to this host only.
            let name = if shared {
                port.number.to_string()
            } else {
                format!("{}:{}", service.host, port.number)
            };
            slot.http.get_or_insert(name);
        }
        for chain in l4::service_chains(ctx, service, port, &ranges, shared) {
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
    let addresses = ctx.addresses_of(service);
    let (single, ranges): (Vec<IpNet>, Vec<IpNet>) = addresses
        .into_iter()
        .partition(|a| a.prefix_len() == a.max_prefix_len());
    let mut binds: Vec<(String, Vec<IpNet>)> = single.iter().map(|a| (a.addr().to_string(), Vec::new())).collect();
    if !ranges.is_empty() || binds.is_empty() {
        binds.push((wildcard(ctx).to_owned(), ranges));
    }
    binds
}
