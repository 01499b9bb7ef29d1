//! Route tables of a sidecar's outbound side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use mesh_api::names;

use super::rule::{Source, routes};
use super::{status, table, to_cluster, to_service, virtual_host};
use crate::compile::context::Context;
use crate::compile::pb::route;
use crate::store::claim::precedence;
use crate::store::host;
use crate::store::routing::Routing;
use crate::store::service::Service;

/// Port of hosts that VirtualServices name and no service has: there is nothing else to take it from.
const PORT_OF_UNKNOWN_HOSTS: u16 = 80;

/// A route table by its RDS name: a port, or `host:port`.
pub(in super::super) fn sidecar(ctx: &Context<'_>, name: &str) -> route::RouteConfiguration {
    let (single, port) = match name.rsplit_once(':') {
        Some((host, port)) => (Some(host), port),
        None => (None, name),
    };
    let port = port.parse().unwrap_or_default();
    let speaks_http = |s: &&Arc<Service>| {
        let port = s.port(port).and_then(|p| ctx.port_of(s, p));
        port.is_some_and(|p| p.protocol.is_http() || p.protocol.is_auto())
    };
    let found: Vec<&Arc<Service>> = match single {
        Some(host) => ctx.service(host).into_iter().collect(),
        None => ctx.services().collect(),
    };
    let services: BTreeMap<&str, &Arc<Service>> = found
        .into_iter()
        .filter(speaks_http)
        .map(|s| (s.host.as_str(), s))
        .collect();

    let gateways = [names::MESH_GATEWAY.to_owned()];
    let source = Source {
        gateways: &gateways,
        port,
        tls: false,
    };
    let mut hosts = Hosts::default();
    // Where several answer to one name the first has it.
    let mut in_turn: Vec<&Arc<Service>> = services.values().copied().collect();
    in_turn.sort_by(|a, b| precedence(a, b));
    for service in in_turn {
        let host = &service.host;
        let routes = claim(ctx, host, port)
            .map(|r| routes(ctx, r, &source))
            .unwrap_or_default();
        let routes = if routes.is_empty() {
            vec![to_service(ctx, service, port)]
        } else {
            routes
        };
        let domains = if single.is_some() {
            vec!["*".to_owned()]
        } else {
            domains(ctx, service, port)
        };
        hosts.add(ctx, host, port, domains, routes);
    }
    hosts.list.sort_by(|a, b| a.name.cmp(&b.name));
    if single.is_none() {
        if port == PORT_OF_UNKNOWN_HOSTS {
            for (host, routing) in without_service(ctx, &services) {
                hosts.add(ctx, host, port, vec![host.to_owned()], routes(ctx, routing, &source));
            }
        }
        hosts.list.push(unknown(ctx));
    }
    table(name, hosts.list)
}

/// The VirtualService that speaks for a service: one that names the host before wildcards, long wildcards before short
/// ones, and the oldest first.
fn claim<'a>(ctx: &'a Context<'_>, host: &str, port: u16) -> Option<&'a Arc<Routing>> {
    let nearest = |r: &Routing| {
        let around = r.hosts.iter().filter(|h| host::covers(h, host));
        around.map(|h| host::specificity(h)).max()
    };
    let http = ctx.routings_of(host, port).filter(|r| has_http(r));
    // Of equal ones the first counts, which is the oldest.
    http.min_by_key(|r| std::cmp::Reverse(nearest(r)))
}

/// Hosts that VirtualServices name and that are no service's, each with the oldest of them.
fn without_service<'a>(
    ctx: &'a Context<'_>,
    services: &BTreeMap<&str, &Arc<Service>>,
) -> BTreeMap<&'a str, &'a Arc<Routing>> {
    let mut found = BTreeMap::new();
    let all = ctx.mesh_routings(Some(PORT_OF_UNKNOWN_HOSTS));
    for routing in all.filter(|r| has_http(r)) {
        for host in routing.hosts.iter().filter(|h| *h != "*") {
            let covers_one = || host.starts_with('*') && services.keys().any(|s| host::covers(host, s));
            if ctx.service(host).is_none() && !covers_one() {
                found.entry(host.as_str()).or_insert(routing);
            }
        }
    }
    found
}

fn has_http(routing: &Routing) -> bool {
    !routing.http.is_empty()
}

/// Virtual hosts, each domain in one of them only: Envoy refuses a table that has one twice.
#[derive(Default)]
struct Hosts {
    list: Vec<route::VirtualHost>,
    seen: BTreeSet<String>,
}

impl Hosts {
    fn add(&mut self, ctx: &Context<'_>, host: &str, port: u16, domains: Vec<String>, routes: Vec<route::Route>) {
        let mut own = Vec::new();
        for domain in domains {
            if self.seen.insert(domain.to_ascii_lowercase()) {
                own.push(domain);
            } else if domain == host {
                ctx.warn(
                    format!("host {host}"),
                    "",
                    format!("another host on port {port} already answers to this name; give one of them another name"),
                );
            }
        }
        if !own.is_empty() && !routes.is_empty() {
            self.list.push(virtual_host(format!("{host}:{port}"), own, routes));
        }
    }
}

/// The names by which a caller may address a service: all that its resolver would complete.
fn domains(ctx: &Context<'_>, service: &Service, port: u16) -> Vec<String> {
    let mut domains = vec![service.host.clone()];
    if !service.host.starts_with('*') {
        domains.push(format!("{}.", service.host));
    }
    if service.kubernetes {
        let (name, namespace) = (&service.name, &service.namespace);
        if namespace == ctx.namespace {
            domains.push(name.clone());
        }
        domains.push(format!("{name}.{namespace}.svc"));
        domains.push(format!("{name}.{namespace}"));
    }
    if service.headless {
        let inner: Vec<String> = domains.iter().map(|d| format!("*.{d}")).collect();
        domains.extend(inner);
    }
    for vip in ctx.own_addresses_of(service, port) {
        if vip.prefix_len() == vip.max_prefix_len() {
            domains.push(match vip {
                IpNet::V4(v4) => v4.addr().to_string(),
                // Authorities have IPv6 addresses in brackets.
                IpNet::V6(v6) => format!("[{}]", v6.addr()),
            });
        }
    }
    domains
}

/// Hosts that nobody knows.
pub(in super::super) fn unknown(ctx: &Context<'_>) -> route::VirtualHost {
    let everything = vec!["*".to_owned()];
    if ctx.registry_only() {
        let route = route::Route {
            name: "block_all".to_owned(),
            action: Some(status(502)),
            ..to_cluster("", "", String::new())
        };
        virtual_host("block_all".to_owned(), everything, vec![route])
    } else {
        let route = to_cluster("allow_any", &ctx.unknown_http_cluster(), String::new());
        virtual_host("allow_any".to_owned(), everything, vec![route])
    }
}
