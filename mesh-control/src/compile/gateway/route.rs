//! Route tables of a gateway.

use std::collections::BTreeMap;

use super::super::context::Context;
use super::super::pb::route;
use super::super::route::rule::{Source, routes};
use super::super::route::{catch_all_last, table, virtual_host};
use super::merge::{ServerRef, bound};

/// The route table of servers that share one connection manager. VirtualServices for one host are merged, oldest first.
pub(super) fn route_table(ctx: &Context<'_>, name: &str, servers: &[ServerRef<'_>]) -> route::RouteConfiguration {
    let port = servers.first().map(ServerRef::port).unwrap_or_default();
    let mut hosts: BTreeMap<String, route::VirtualHost> = BTreeMap::new();
    for server in servers {
        let gateways = [server.gateway_name()];
        let source = Source {
            gateways: &gateways,
            port: server.port(),
            tls: server.terminates(),
        };
        let redirects = redirects(server);
        for (routing, matched) in bound(ctx, server) {
            let found = routes(ctx, routing, &source);
            if found.is_empty() {
                continue;
            }
            for host in matched {
                let entry = hosts.entry(host.to_owned()).or_insert_with(|| empty(host, port));
                // A Gateway that has the host twice on a port brings the same rules twice.
                for route in &found {
                    if !entry.routes.contains(route) {
                        entry.routes.push(route.clone());
                    }
                }
                if redirects {
                    require_tls(entry);
                }
            }
        }
        if redirects {
            for host in server.hosts() {
                require_tls(hosts.entry(host.to_owned()).or_insert_with(|| empty(host, port)));
            }
        }
    }
    for host in hosts.values_mut() {
        catch_all_last(&mut host.routes);
    }
    let mut list: Vec<route::VirtualHost> = hosts.into_values().collect();
    if list.is_empty() {
        list.push(virtual_host(
            format!("blackhole:{port}"),
            vec!["*".to_owned()],
            Vec::new(),
        ));
    }
    table(name, list)
}

fn empty(host: &str, port: u16) -> route::VirtualHost {
    virtual_host(format!("{host}:{port}"), vec![host.to_owned()], Vec::new())
}

fn require_tls(host: &mut route::VirtualHost) {
    host.require_tls = route::virtual_host::TlsRequirementType::All.into();
}

fn redirects(server: &ServerRef<'_>) -> bool {
    server.server.tls.as_ref().is_some_and(|t| t.https_redirect)
}
