//! Listeners of a gateway.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mesh_api::istio::ServerTlsMode;
use prost::Message;

use super::super::cluster;
use super::super::context::Context;
use super::super::l4;
use super::super::listener::http::{Routes, Side, manager};
use super::super::listener::{access_log, inspect, tcp, wildcard};
use super::super::pb::{address, core, listener, seconds};
use super::super::route::rule::Source;
use super::super::{Compiled, Encoded};
use super::merge::{Port, ServerRef, Speaks, bound};
use super::route::route_table;
use super::tls;

/// ALPN by which sidecars announce their mutual TLS.
const MESH_ALPN: [&str; 5] = [
    "istio-peer-exchange",
    "istio",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

/// Makes the listener of one port, with its route tables. A port without any chain is not opened.
pub(super) fn listener(ctx: &Context<'_>, port: &Port<'_>, out: &mut Compiled) {
    let bind = if port.bind.is_empty() {
        wildcard(ctx)
    } else {
        &port.bind
    };
    let mut filters = Vec::new();
    let chains = match port.speaks {
        Speaks::Http => vec![http(ctx, port, bind, out)],
        Speaks::Tls => {
            filters.push(inspect::tls(&[]));
            port.servers
                .iter()
                .flat_map(|s| tls_server(ctx, port, s, bind, out))
                .collect()
        }
        Speaks::Tcp => {
            if port.servers.iter().any(ServerRef::terminates) {
                filters.push(inspect::tls(&[]));
            }
            port.servers.iter().flat_map(|s| tcp_server(ctx, s)).collect()
        }
    };
    if chains.is_empty() {
        return;
    }
    let name = format!("{bind}_{}", port.number);
    let listener = listener::Listener {
        name: name.clone(),
        address: address(bind, port.number),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        listener_filters: filters,
        filter_chains: unique(ctx, chains, port),
        access_log: access_log::of_listener(ctx),
        ..Default::default()
    };
    out.listeners.insert(name, Encoded::new(&listener));
}

/// Envoy refuses a listener in which two chains have one condition; the older stays.
fn unique(ctx: &Context<'_>, chains: Vec<listener::FilterChain>, port: &Port<'_>) -> Vec<listener::FilterChain> {
    let mut kept: Vec<listener::FilterChain> = Vec::new();
    let mut conditions: HashMap<Vec<u8>, usize> = HashMap::new();
    for chain in chains {
        let condition = chain.filter_chain_match.as_ref().map(Message::encode_to_vec);
        match conditions.entry(condition.unwrap_or_default()) {
            Entry::Vacant(entry) => {
                entry.insert(kept.len());
                kept.push(chain);
            }
            // Two servers may bring the same.
            Entry::Occupied(entry) if kept[*entry.get()] == chain => {}
            Entry::Occupied(_) => port.servers[0].warn(
                ctx,
                ".port",
                "several rules want the same connections on this port; the first, by age of the VirtualServices, gets them",
            ),
        }
    }
    kept
}

fn suffix(port: &Port<'_>) -> String {
    if port.bind.is_empty() {
        String::new()
    } else {
        format!(".{}", port.bind)
    }
}

/// One chain for all servers.
fn http(ctx: &Context<'_>, port: &Port<'_>, bind: &str, out: &mut Compiled) -> listener::FilterChain {
    let name = format!("http.{}{}", port.number, suffix(port));
    let table = route_table(ctx, &name, &port.servers);
    out.routes.insert(name.clone(), Encoded::new(&table));
    let stat_prefix = format!("outbound_{bind}_{}", port.number);
    listener::FilterChain {
        filters: vec![manager(ctx, Side::Gateway, &stat_prefix, Routes::Rds(name))],
        ..Default::default()
    }
}

/// Chains of a server that is chosen by server name.
fn tls_server(
    ctx: &Context<'_>,
    port: &Port<'_>,
    server: &ServerRef<'_>,
    bind: &str,
    out: &mut Compiled,
) -> Vec<listener::FilterChain> {
    match server.mode() {
        None => {
            server.warn(
                ctx,
                ".tls",
                "a server of protocol HTTPS or TLS needs tls; the server is left out",
            );
            Vec::new()
        }
        Some(ServerTlsMode::AutoPassthrough) => auto_passthrough(ctx, server, out),
        Some(ServerTlsMode::Passthrough) => passthrough(ctx, server),
        Some(_) if server.protocol() == crate::store::protocol::Protocol::Https => {
            let name = format!(
                "https.{}.{}.{}.{}{}",
                port.number,
                server.server.port.name,
                server.gateway.meta.name,
                server.gateway.meta.namespace,
                suffix(port),
            );
            let Some(socket) = tls::socket(ctx, server, true) else {
                return Vec::new();
            };
            let table = route_table(ctx, &name, &[*server]);
            out.routes.insert(name.clone(), Encoded::new(&table));
            let stat_prefix = format!("outbound_{bind}_{}", port.number);
            vec![listener::FilterChain {
                filter_chain_match: by_name(server),
                transport_socket: Some(socket),
                transport_socket_connect_timeout: seconds(15),
                filters: vec![manager(ctx, Side::Gateway, &stat_prefix, Routes::Rds(name))],
                ..Default::default()
            }]
        }
        Some(_) => terminated(ctx, server),
    }
}

/// By the hosts of the server; a server for all hosts has no condition.
fn by_name(server: &ServerRef<'_>) -> Option<listener::FilterChainMatch> {
    let mut names: Vec<String> = server.hosts().into_iter().map(str::to_owned).collect();
    names.sort();
    names.dedup();
    (!names.iter().any(|n| n == "*")).then(|| listener::FilterChainMatch {
        server_names: names,
        ..Default::default()
    })
}

/// Chains of the tls rules of VirtualServices, on the server's hosts.
fn passthrough(ctx: &Context<'_>, server: &ServerRef<'_>) -> Vec<listener::FilterChain> {
    let gateways = [server.gateway_name()];
    let source = Source {
        gateways: &gateways,
        port: server.port(),
        tls: server.terminates(),
    };
    let mut chains = Vec::new();
    for (routing, _) in bound(ctx, server) {
        let namespace = &routing.object.meta.namespace;
        for mut chain in l4::tls_chains(ctx, routing, &source, &[]) {
            if let Some(matches) = &mut chain.filter_chain_match {
                let asked = matches.server_names.len();
                matches.server_names.retain(|name| server.admits(name, namespace));
                if asked > 0 && matches.server_names.is_empty() {
                    continue;
                }
            }
            chains.push(chain);
        }
    }
    chains
}

/// Chains by which mutual TLS between sidecars goes on to the service that its server name says, without VirtualServices.
fn auto_passthrough(ctx: &Context<'_>, server: &ServerRef<'_>, out: &mut Compiled) -> Vec<listener::FilterChain> {
    let mut chains = Vec::new();
    for service in ctx.services().filter(|s| server.passes_on(s)) {
        for (name, policy) in cluster::passed_on(ctx, service, out) {
            chains.push(listener::FilterChain {
                filter_chain_match: Some(listener::FilterChainMatch {
                    server_names: vec![name.clone()],
                    application_protocols: MESH_ALPN.map(str::to_owned).to_vec(),
                    ..Default::default()
                }),
                filters: tcp::proxy(ctx, &name, &[(name.clone(), 1)], &policy),
                ..Default::default()
            });
        }
    }
    chains
}

/// TLS ends here and opaque bytes go on, by the tcp rules of VirtualServices.
fn terminated(ctx: &Context<'_>, server: &ServerRef<'_>) -> Vec<listener::FilterChain> {
    let Some(socket) = tls::socket(ctx, server, false) else {
        return Vec::new();
    };
    let names = by_name(server);
    let mut chains = tcp_rules(ctx, server);
    for chain in &mut chains {
        chain.transport_socket = Some(socket.clone());
        chain.transport_socket_connect_timeout = seconds(15);
        if let Some(names) = &names {
            let matches = chain.filter_chain_match.get_or_insert_with(Default::default);
            matches.server_names.clone_from(&names.server_names);
        }
    }
    chains
}

/// Chains of a server for opaque bytes, in the clear or inside TLS that ends here.
fn tcp_server(ctx: &Context<'_>, server: &ServerRef<'_>) -> Vec<listener::FilterChain> {
    if server.terminates() {
        terminated(ctx, server)
    } else {
        tcp_rules(ctx, server)
    }
}

fn tcp_rules(ctx: &Context<'_>, server: &ServerRef<'_>) -> Vec<listener::FilterChain> {
    let gateways = [server.gateway_name()];
    let source = Source {
        gateways: &gateways,
        port: server.port(),
        tls: server.terminates(),
    };
    for (routing, _) in bound(ctx, server) {
        let (chains, _) = l4::tcp_chains(ctx, routing, &source, &[]);
        if !chains.is_empty() {
            return chains;
        }
    }
    Vec::new()
}
