//! One outbound listener in the making: an address and port, and everything that services want there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ipnet::IpNet;
use prost::Message;

use super::super::context::Context;
use super::super::pb::{address, cidr, core, listener, off};
use super::http::{Routes, Side, manager};
use super::{PLAIN_HTTP, access_log, detection_timeout, inspect, other_wildcard, tcp, wildcard};

/// Chains of one listener.
#[derive(Default)]
pub(super) struct Slot {
    /// Route table of HTTP, if anything speaks it here.
    pub(super) http: Option<String>,
    /// The address is a Sidecar's, not that of a service.
    pub(super) own: bool,
    /// The application addresses the listener itself, so that it is opened.
    pub(super) bound: bool,
    /// Addresses of HTTP services that lie in the ranges of opaque ones.
    pub(super) addresses: Vec<IpNet>,
    /// Host that has the address; nobody has a shared one.
    pub(super) owner: Option<String>,
    /// Opaque chains with different conditions, the first service first.
    pub(super) opaque: Vec<listener::FilterChain>,
    /// Conditions of those chains, encoded, with their places.
    conditions: HashMap<Vec<u8>, usize>,
}

impl Slot {
    /// Adds an opaque chain; another under the same condition stays as it is, and the caller is told.
    pub(super) fn add(&mut self, chain: listener::FilterChain) -> bool {
        // A chain without a condition takes what one with an empty condition takes.
        let condition = chain.filter_chain_match.as_ref().map(Message::encode_to_vec);
        match self.conditions.entry(condition.unwrap_or_default()) {
            Entry::Vacant(entry) => {
                entry.insert(self.opaque.len());
                self.opaque.push(chain);
                true
            }
            // A VirtualService for several hosts brings the same chain for each of them.
            Entry::Occupied(entry) => self.opaque.get(*entry.get()) == Some(&chain),
        }
    }

    /// The listener. It binds no port, unless a Sidecar says so: `virtualOutbound` hands connections to it.
    pub(super) fn listener(self, ctx: &Context<'_>, bind: &str, port: u16) -> listener::Listener {
        let by_sni = self
            .opaque
            .iter()
            .filter_map(|c| c.filter_chain_match.as_ref())
            .any(|m| !m.server_names.is_empty());
        let mut filters = Vec::new();
        if self.http.is_some() || by_sni {
            filters.push(inspect::tls(&[]));
        }
        if self.http.is_some() {
            filters.push(inspect::http(&[]));
        }
        let mut chains = Vec::new();
        if let Some(routes) = self.http {
            let chain = http_chain(ctx, bind, port, routes);
            if !self.addresses.is_empty() {
                let mut own = chain.clone();
                let matches = own.filter_chain_match.get_or_insert_default();
                matches.prefix_ranges = self.addresses.iter().copied().map(cidr).collect();
                chains.push(own);
            }
            chains.push(chain);
        }
        let anything = self.opaque.iter().any(|c| c.filter_chain_match.is_none());
        chains.extend(self.opaque);
        let shared = bind == wildcard(ctx) && !self.own;
        listener::Listener {
            name: format!("{bind}_{port}"),
            address: address(bind, port),
            additional_addresses: if shared { other_wildcard(ctx, port) } else { Vec::new() },
            bind_to_port: if self.bound { None } else { off() },
            traffic_direction: core::TrafficDirection::Outbound.into(),
            listener_filters_timeout: detection_timeout(ctx),
            continue_on_listener_filters_timeout: true,
            listener_filters: filters,
            filter_chains: chains,
            access_log: access_log::of_listener(ctx),
            // Hosts that are not ours share the port with those that are.
            default_filter_chain: (shared && !anything).then(|| unknown_chain(ctx)),
            ..Default::default()
        }
    }
}

fn http_chain(ctx: &Context<'_>, bind: &str, port: u16, routes: String) -> listener::FilterChain {
    let stat_prefix = format!("outbound_{bind}_{port}");
    listener::FilterChain {
        filter_chain_match: plain_http(),
        filters: vec![manager(ctx, Side::Outbound, &stat_prefix, Routes::Rds(routes))],
        ..Default::default()
    }
}

/// HTTP in the clear.
#[allow(clippy::unnecessary_wraps, reason = "fields of messages are Options")]
pub(super) fn plain_http() -> Option<listener::FilterChainMatch> {
    Some(listener::FilterChainMatch {
        transport_protocol: "raw_buffer".to_owned(),
        application_protocols: PLAIN_HTTP.map(str::to_owned).to_vec(),
        ..Default::default()
    })
}

/// The chain for what no other takes: passed on, or refused.
fn unknown_chain(ctx: &Context<'_>) -> listener::FilterChain {
    listener::FilterChain {
        name: "PassthroughFilterChain".to_owned(),
        filters: tcp::to(ctx, &ctx.unknown_cluster()),
        ..Default::default()
    }
}
