//! Route tables of a sidecar's outbound side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use mesh_api::names;

use super::rule::{Source, routes};
use super::{status, table, to_cluster, to_service, virtual_host};
use crate::compile::context::Context;
use crate::compile::pb::route;
use crate::store::host;
use crate::store::rules::Routing;
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
    let services: BTreeMap<&str, &Arc<Service>> = ctx
        .store
        .services(ctx.namespace)
        .filter(|s| single.is_none_or(|host| s.host == host))
        .filter(|s| {
            s.port(port)
                .is_some_and(|p| p.protocol.is_http() || p.protocol.is_auto())
        })
        .map(|s| (s.host.as_str(), s))
        .collect();

    let claims = claims(ctx, &services, port, single.is_none());
    let gateways = [names::MESH_GATEWAY.to_owned()];
    let source = Source {
        gateways: &gateways,
        port,
    };
    let mut hosts = Hosts::default();
    for (host, service) in &services {
        let routes = claims.get(*host).map(|r| routes(ctx, r, &source)).unwrap_or_default();
        let routes = if routes.is_empty() {
            vec![to_service(ctx, service, port)]
        } else {
            routes
        };
        let domains = if single.is_some() {
            vec!["*".to_owned()]
        } else {
            domains(ctx, service)
        };
        hosts.add(ctx, host, port, domains, routes);
    }
    for (host, routing) in &claims {
        if !services.contains_key(host.as_str()) {
            hosts.add(ctx, host, port, vec![host.clone()], routes(ctx, routing, &source));
        }
    }
    if single.is_none() {
        hosts.list.push(unknown(ctx));
    }
    table(name, hosts.list)
}

/// Which VirtualService speaks for which host: names before wildcards, long wildcards before short ones, and the oldest first.
fn claims<'a>(
    ctx: &'a Context<'_>,
    services: &BTreeMap<&str, &Arc<Service>>,
    port: u16,
    unknown_too: bool,
) -> BTreeMap<String, &'a Arc<Routing>> {
    let mut wanted: Vec<(&String, &Arc<Routing>)> = ctx
        .store
        .routings(ctx.namespace)
        .filter(|r| !r.object.spec.http.is_empty() && concerns_mesh(r))
        .flat_map(|r| r.hosts.iter().map(move |h| (h, r)))
        .collect();
    wanted.sort_by_key(|(host, _)| std::cmp::Reverse(host::specificity(host)));

    let mut claims: BTreeMap<String, &Arc<Routing>> = BTreeMap::new();
    for (pattern, routing) in wanted {
        let covered: Vec<&str> = if pattern.starts_with('*') {
            services.keys().copied().filter(|h| host::covers(pattern, h)).collect()
        } else {
            services
                .get_key_value(pattern.as_str())
                .map(|(h, _)| *h)
                .into_iter()
                .collect()
        };
        for host in &covered {
            claims.entry((*host).to_owned()).or_insert(routing);
        }
        let known_elsewhere = ctx.store.service(pattern, ctx.namespace).is_some();
        if covered.is_empty() && unknown_too && !known_elsewhere && port == PORT_OF_UNKNOWN_HOSTS && pattern != "*" {
            claims.entry(pattern.clone()).or_insert(routing);
        }
    }
    claims
}

/// Whether any rule of a VirtualService is for sidecars.
pub(super) fn concerns_mesh(routing: &Routing) -> bool {
    routing.gateways.iter().any(|g| g == names::MESH_GATEWAY)
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
fn domains(ctx: &Context<'_>, service: &Service) -> Vec<String> {
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
    for vip in service.addresses(ctx.dns_capture) {
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
fn unknown(ctx: &Context<'_>) -> route::VirtualHost {
    let everything = vec!["*".to_owned()];
    if ctx.registry_only() {
        let route = route::Route {
            name: "block_all".to_owned(),
            action: Some(status(502)),
            ..to_cluster("", "", String::new())
        };
        virtual_host("block_all".to_owned(), everything, vec![route])
    } else {
        let route = to_cluster("allow_any", names::PASSTHROUGH_CLUSTER, String::new());
        virtual_host("allow_any".to_owned(), everything, vec![route])
    }
}
