//! Filter chains for opaque bytes and for TLS that is not opened: VirtualServices' tcp and tls rules, else the service itself.

use ipnet::IpNet;
use mesh_api::istio::RouteDestination;
use mesh_api::names;

use super::cluster::policy::Policy;
use super::context::Context;
use super::listener::tcp;
use super::pb::{cidr, listener, origin};
use super::route::rule::{Source, Target, from_here, target};
use crate::store::routing::Routing;
use crate::store::service::{Service, ServicePort};

/// Chains of a sidecar's listener for one service port. `ranges` are the destinations that a shared listener tells apart.
pub(super) fn service_chains(
    ctx: &Context<'_>,
    service: &Service,
    port: &ServicePort,
    ranges: &[IpNet],
    shared: bool,
) -> Vec<listener::FilterChain> {
    let gateways = [names::MESH_GATEWAY.to_owned()];
    let source = Source {
        gateways: &gateways,
        port: port.number,
        tls: false,
    };
    let mut chains = Vec::new();
    let mut everything = false;
    for routing in ctx.routings_of(&service.host, port.number) {
        chains.extend(tls_chains(ctx, routing, &source, ranges));
        if !port.protocol.is_tls() {
            let (found, all) = tcp_chains(ctx, routing, &source, ranges);
            chains.extend(found);
            everything |= all;
        }
        if everything {
            break;
        }
    }
    if !everything && (chains.is_empty() || !port.protocol.is_tls()) {
        chains.push(to_service(ctx, service, port, ranges, shared));
    }
    chains
}

/// Straight to the service.
fn to_service(
    ctx: &Context<'_>,
    service: &Service,
    port: &ServicePort,
    ranges: &[IpNet],
    shared: bool,
) -> listener::FilterChain {
    let name = names::outbound_cluster(port.number, "", &service.host);
    let policy = Policy::of(ctx.rule(service), port.number, None);
    let mut matches = listener::FilterChainMatch {
        prefix_ranges: ranges.iter().copied().map(cidr).collect(),
        ..Default::default()
    };
    if port.protocol.is_tls() && shared && ranges.is_empty() {
        // Nothing but the server name tells services on a shared address apart.
        matches.server_names = vec![service.host.clone()];
    }
    listener::FilterChain {
        filter_chain_match: (matches != listener::FilterChainMatch::default()).then_some(matches),
        filters: tcp::proxy(ctx, &name, &[(name.clone(), 1)], &policy),
        ..Default::default()
    }
}

/// Chains of a VirtualService's tls rules.
pub(super) fn tls_chains(
    ctx: &Context<'_>,
    routing: &Routing,
    source: &Source<'_>,
    ranges: &[IpNet],
) -> Vec<listener::FilterChain> {
    let mut chains = Vec::new();
    for (index, rule) in routing.object.spec.tls.iter().enumerate() {
        for condition in &rule.r#match {
            let here = from_here(
                ctx,
                source,
                &routing.object.meta.namespace,
                &condition.gateways,
                &condition.source_labels,
                &condition.source_namespace,
            ) && (condition.port == 0 || condition.port == u32::from(source.port));
            if !here {
                continue;
            }
            let field = format!("spec.tls[{index}]");
            let mut chain = weighted(ctx, routing, &rule.route, source, &field);
            let mut matches = listener::FilterChainMatch {
                prefix_ranges: destinations(&condition.destination_subnets, ranges),
                ..Default::default()
            };
            if condition.sni_hosts.iter().any(|h| h == "*") {
                // Any server name, or none: Envoy has no wildcard for that but the protocol.
                "tls".clone_into(&mut matches.transport_protocol);
            } else {
                matches.server_names.clone_from(&condition.sni_hosts);
            }
            chain.filter_chain_match = Some(matches);
            chains.push(chain);
        }
    }
    chains
}

/// Chains of a VirtualService's tcp rules, and whether one of them takes everything.
pub(super) fn tcp_chains(
    ctx: &Context<'_>,
    routing: &Routing,
    source: &Source<'_>,
    ranges: &[IpNet],
) -> (Vec<listener::FilterChain>, bool) {
    let mut chains = Vec::new();
    for (index, rule) in routing.object.spec.tcp.iter().enumerate() {
        let field = format!("spec.tcp[{index}]");
        let subnets: Vec<&[String]> = if rule.r#match.is_empty() {
            vec![&[]]
        } else {
            rule.r#match
                .iter()
                .filter(|m| {
                    from_here(
                        ctx,
                        source,
                        &routing.object.meta.namespace,
                        &m.gateways,
                        &m.source_labels,
                        &m.source_namespace,
                    ) && (m.port == 0 || m.port == u32::from(source.port))
                })
                .map(|m| m.destination_subnets.as_slice())
                .collect()
        };
        for subnets in subnets {
            let mut chain = weighted(ctx, routing, &rule.route, source, &field);
            let prefixes = destinations(subnets, ranges);
            let everything = subnets.is_empty();
            chain.filter_chain_match = (!prefixes.is_empty()).then(|| listener::FilterChainMatch {
                prefix_ranges: prefixes,
                ..Default::default()
            });
            chains.push(chain);
            if everything {
                return (chains, true);
            }
        }
    }
    (chains, false)
}

/// The rule's own subnets, else those of the listener.
fn destinations(subnets: &[String], ranges: &[IpNet]) -> Vec<super::pb::core::CidrRange> {
    if subnets.is_empty() {
        return ranges.iter().copied().map(cidr).collect();
    }
    subnets
        .iter()
        .filter_map(|s| {
            s.parse::<IpNet>()
                .ok()
                .or_else(|| s.parse::<std::net::IpAddr>().ok().map(IpNet::from))
        })
        .map(cidr)
        .collect()
}

/// A chain to weighted destinations, without a condition.
fn weighted(
    ctx: &Context<'_>,
    routing: &Routing,
    route: &[RouteDestination],
    source: &Source<'_>,
    field: &str,
) -> listener::FilterChain {
    let targets: Vec<(Target<'_>, u32)> = route
        .iter()
        .enumerate()
        .filter(|(_, d)| d.weight > 0 || route.len() == 1)
        .map(|(index, d)| {
            let field = format!("{field}.route[{index}].destination");
            let target = target(ctx, &routing.object.meta, &d.destination, source.port, &field);
            (target, u32::try_from(d.weight).unwrap_or_default().max(1))
        })
        .collect();
    let clusters: Vec<(String, u32)> = targets.iter().map(|(t, weight)| (t.cluster.clone(), *weight)).collect();
    let filters = match targets.as_slice() {
        [] => tcp::to(ctx, names::BLACK_HOLE_CLUSTER),
        [(only, _)] => tcp::proxy(ctx, &only.cluster, &clusters, &only.policy),
        [(first, _), ..] => {
            let name = format!("{}.{}", routing.object.meta.name, routing.object.meta.namespace);
            // Several policies cannot all limit one connection; the first says how destinations are reached.
            let policy = Policy {
                pool: None,
                ..first.policy
            };
            tcp::proxy(ctx, &name, &clusters, &policy)
        }
    };
    listener::FilterChain {
        metadata: origin(&routing.config()),
        filters,
        ..Default::default()
    }
}
