//! Listeners of a sidecar.

pub(super) mod access_log;
pub(super) mod http;
mod inbound;
pub(super) mod inspect;
mod outbound;
mod slot;
pub(super) mod tcp;

use mesh_api::names;

use super::context::Context;
use super::inbound::InboundPort;
use super::pb::{address, core, listener, on, uint};
use super::route::{table, unknown};
use super::{Compiled, Encoded};
use crate::store::protocol::SERVER_FIRST_PORTS;

/// ALPN of HTTP in the clear, as the HTTP inspector names it.
pub(super) const PLAIN_HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// Makes the listeners of a sidecar's outbound side, and names the route tables that they need.
pub(super) fn outbound(ctx: &Context<'_>, out: &mut Compiled) -> Vec<String> {
    let (listeners, routes) = outbound::listeners(ctx);
    for listener in listeners {
        out.listeners.insert(listener.name.clone(), Encoded::new(&listener));
    }
    let outbound = virtual_outbound(ctx);
    out.listeners.insert(outbound.name.clone(), Encoded::new(&outbound));
    routes
}

/// Makes the listener of a sidecar's inbound side.
pub(super) fn inbound(ctx: &Context<'_>, ports: &[InboundPort<'_>], out: &mut Compiled) {
    let inbound = inbound::virtual_inbound(ctx, ports);
    out.listeners.insert(inbound.name.clone(), Encoded::new(&inbound));
    for port in ports {
        if let Some(bind) = &port.bind {
            let bound = inbound::bound(ctx, port, bind);
            out.listeners.insert(bound.name.clone(), Encoded::new(&bound));
        }
    }
}

/// All addresses of the machine, in the family of the proxy's own.
pub(super) fn wildcard(ctx: &Context<'_>) -> &'static str {
    if ctx.proxy.id.ip.is_ipv6() { "::" } else { "0.0.0.0" }
}

/// The other family's on the same port, for a proxy that has addresses of both.
pub(super) fn other_wildcard(ctx: &Context<'_>, port: u16) -> Vec<listener::AdditionalAddress> {
    if ctx.families != (true, true) {
        return Vec::new();
    }
    let other = if wildcard(ctx) == "::" { "0.0.0.0" } else { "::" };
    vec![listener::AdditionalAddress {
        address: address(other, port),
        ..Default::default()
    }]
}

/// Where captured outbound connections come in. They are handed on to the listener of their original destination; those
/// without one stay here.
fn virtual_outbound(ctx: &Context<'_>) -> listener::Listener {
    let unknown = ctx.unknown_cluster();
    let mut chains = vec![black_hole(
        ctx,
        "virtualOutbound-blackhole",
        ctx.store.mesh().proxy_listen_port,
    )];
    let mut inspectors = Vec::new();
    if ctx.allows_any_name() {
        inspectors = vec![inspect::tls(&SERVER_FIRST_PORTS), inspect::http(&SERVER_FIRST_PORTS)];
        chains.push(named(ctx));
    }
    chains.push(listener::FilterChain {
        name: "virtualOutbound-catchall-tcp".to_owned(),
        filters: tcp::to(ctx, &unknown),
        ..Default::default()
    });
    listener::Listener {
        name: names::VIRTUAL_OUTBOUND.to_owned(),
        address: address(wildcard(ctx), ctx.store.mesh().proxy_listen_port),
        additional_addresses: other_wildcard(ctx, ctx.store.mesh().proxy_listen_port),
        use_original_dst: on(),
        transparent: transparent(ctx),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        listener_filters_timeout: if inspectors.is_empty() {
            None
        } else {
            detection_timeout(ctx)
        },
        continue_on_listener_filters_timeout: !inspectors.is_empty(),
        listener_filters: inspectors,
        filter_chains: chains,
        access_log: access_log::of_listener(ctx),
        ..Default::default()
    }
}

/// HTTP of hosts that nobody knows, which goes to the names that requests give.
fn named(ctx: &Context<'_>) -> listener::FilterChain {
    let name = "virtualOutbound-catchall-http";
    let table = table(names::VIRTUAL_OUTBOUND, vec![unknown(ctx)]);
    listener::FilterChain {
        name: name.to_owned(),
        filter_chain_match: slot::plain_http(),
        filters: vec![http::manager(
            ctx,
            http::Side::Outbound,
            names::VIRTUAL_OUTBOUND,
            http::Routes::Inline(table),
        )],
        ..Default::default()
    }
}

/// Connections made to the capture port itself would come back to it for ever.
fn black_hole(ctx: &Context<'_>, name: &str, port: u16) -> listener::FilterChain {
    listener::FilterChain {
        name: name.to_owned(),
        filter_chain_match: Some(listener::FilterChainMatch {
            destination_port: uint(u32::from(port)),
            ..Default::default()
        }),
        filters: tcp::to(ctx, names::BLACK_HOLE_CLUSTER),
        ..Default::default()
    }
}

/// How long the inspectors wait for a client that says nothing.
fn detection_timeout(ctx: &Context<'_>) -> Option<super::pb::ProtoDuration> {
    super::pb::time(ctx.store.mesh().protocol_detection_timeout.get())
}

fn transparent(ctx: &Context<'_>) -> Option<super::pb::BoolValue> {
    (ctx.proxy.meta("INTERCEPTION_MODE") == Some("TPROXY")).then_some(super::pb::BoolValue { value: true })
}
