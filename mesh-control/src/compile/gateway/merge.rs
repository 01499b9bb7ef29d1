//! Which servers share a port.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::istio::{Gateway, Object, Server, ServerTlsMode};

use super::super::context::Context;
use crate::store::host;
use crate::store::protocol::Protocol;
use crate::store::routing::Routing;
use crate::store::service::{Service, TargetPort};

/// A server of a Gateway object.
#[derive(Clone, Copy)]
pub(super) struct ServerRef<'a> {
    pub(super) gateway: &'a Object<Gateway>,
    pub(super) server: &'a Server,
    pub(super) index: usize,
}

/// What a port does, decided by the oldest server on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP in the clear: one route table for all servers.
    Http,
    /// TLS, opened or not: a chain for each server, by server name.
    Tls,
    /// Opaque bytes.
    Tcp,
}

/// All servers on one address and port.
pub(super) struct Port<'a> {
    /// Address, empty for all.
    pub(super) bind: String,
    /// Port that the proxy listens on.
    pub(super) number: u16,
    pub(super) speaks: Speaks,
    /// Oldest first.
    pub(super) servers: Vec<ServerRef<'a>>,
}

impl<'a> ServerRef<'a> {
    /// `namespace/name`, as VirtualServices name it.
    pub(super) fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.meta.namespace, self.gateway.meta.name)
    }

    pub(super) fn warn(&self, ctx: &Context<'_>, field: &str, message: impl Into<String>) {
        ctx.warn(
            format!("Gateway {}", self.gateway_name()),
            format!("spec.servers[{}]{field}", self.index),
            message,
        );
    }

    /// Port by which clients address the server.
    pub(super) fn port(&self) -> u16 {
        u16::try_from(self.server.port.number).unwrap_or_default()
    }

    pub(super) fn protocol(&self) -> Protocol {
        Protocol::parse(&self.server.port.protocol).unwrap_or(Protocol::Tcp)
    }

    pub(super) fn mode(&self) -> Option<ServerTlsMode> {
        self.server.tls.as_ref().filter(|t| !t.https_redirect).map(|t| t.mode)
    }

    /// TLS ends here.
    pub(super) fn terminates(&self) -> bool {
        !matches!(
            self.mode(),
            None | Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
        )
    }

    fn speaks(&self) -> Speaks {
        let protocol = self.protocol();
        if protocol.is_http() {
            Speaks::Http
        } else if protocol.is_tls() {
            Speaks::Tls
        } else {
            Speaks::Tcp
        }
    }

    /// Hosts without their namespaces.
    pub(super) fn hosts(&self) -> Vec<&'a str> {
        let hosts = self.server.hosts.iter();
        hosts
            .map(|h| h.rsplit_once('/').map_or(h.as_str(), |(_, h)| h))
            .collect()
    }

    /// Whether mutual TLS is passed on to a service (AUTO_PASSTHROUGH).
    pub(super) fn passes_on(&self, service: &Service) -> bool {
        let mut patterns = self.patterns(&service.namespace);
        !service.external && patterns.any(|pattern| host::covers(pattern, &service.host))
    }

    /// Whether the server admits a host of a VirtualService.
    pub(super) fn admits(&self, host: &str, namespace: &str) -> bool {
        self.patterns(namespace).any(|pattern| host::overlap(pattern, host))
    }

    /// What the server's hosts have in common with a host of a VirtualService: the narrower of each two.
    fn shared(&self, host: &'a str, namespace: &str) -> impl Iterator<Item = &'a str> {
        let overlapping = self
            .patterns(namespace)
            .filter(move |pattern| host::overlap(pattern, host));
        overlapping.map(move |pattern| host::narrower(pattern, host))
    }

    /// Hosts that are for objects of a namespace.
    fn patterns(&self, namespace: &str) -> impl Iterator<Item = &'a str> {
        let own = &self.gateway.meta.namespace;
        self.server.hosts.iter().filter_map(move |pattern| {
            let (from, pattern) = pattern.rsplit_once('/').unwrap_or(("*", pattern));
            let seen = match from {
                "*" => true,
                "." => namespace == own,
                named => namespace == named,
            };
            seen.then_some(pattern)
        })
    }
}

/// VirtualServices that are bound to a server's Gateway and share a host with the server, with what they share; oldest first.
pub(super) fn bound<'a>(
    ctx: &'a Context<'_>,
    server: &ServerRef<'a>,
) -> impl Iterator<Item = (&'a Routing, BTreeSet<&'a str>)> {
    let name = server.gateway_name();
    let server = *server;
    ctx.store.routings_at(&name, ctx.namespace).filter_map(move |routing| {
        let namespace = &routing.object.meta.namespace;
        let hosts: BTreeSet<&str> = routing.hosts.iter().flat_map(|h| server.shared(h, namespace)).collect();
        (!hosts.is_empty()).then_some((routing.as_ref(), hosts))
    })
}

/// All ports of the gateway. A server that does not fit the older ones on its port is reported and left out.
pub(super) fn ports<'a>(ctx: &'a Context<'_>) -> Vec<Port<'a>> {
    let mut found: BTreeMap<(String, u16), Port<'a>> = BTreeMap::new();
    // By address, port and host.
    let mut tls_hosts: BTreeSet<(&str, u16, &str)> = BTreeSet::new();
    for gateway in ctx.store.gateways(ctx.labels) {
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let bind = server.bind.as_str();
            // Reported with the object.
            if bind.starts_with("unix://") {
                continue;
            }
            let server = ServerRef { gateway, server, index };
            for number in listen_ports(ctx, server.port()) {
                let key = (server.server.bind.clone(), number);
                let speaks = server.speaks();
                let port = found.entry(key).or_insert_with(|| Port {
                    bind: server.server.bind.clone(),
                    number,
                    speaks,
                    servers: Vec::new(),
                });
                if port.speaks != speaks {
                    let first = &port.servers[0];
                    server.warn(
                        ctx,
                        ".port",
                        format!(
                            "protocol {} does not go with {} of Gateway {}, which is older and has port {}; the server is left out",
                            server.server.port.protocol,
                            first.server.port.protocol,
                            first.gateway_name(),
                            server.port(),
                        ),
                    );
                    continue;
                }
                if speaks == Speaks::Tls {
                    let hosts = server.hosts();
                    if let Some(host) = hosts.iter().find(|h| tls_hosts.contains(&(bind, number, **h))) {
                        server.warn(
                            ctx,
                            ".hosts",
                            format!("an older server on this port has the host {host:?}; the server is left out"),
                        );
                        continue;
                    }
                    tls_hosts.extend(hosts.into_iter().map(|h| (bind, number, h)));
                }
                port.servers.push(server);
            }
        }
    }
    found.into_values().filter(|p| !p.servers.is_empty()).collect()
}

/// Ports that the proxy listens on for a port of its Service; the same number if no Service says otherwise.
fn listen_ports(ctx: &Context<'_>, number: u16) -> Vec<u16> {
    let mut ports: BTreeSet<u16> = BTreeSet::new();
    for service in ctx.store.services_of(ctx.namespace, ctx.labels, &ctx.addresses) {
        if let Some(port) = service.port(number) {
            match &port.target {
                TargetPort::Number(target) => ports.extend([*target]),
                TargetPort::Name(name) => ports.extend(ctx.named_port(name)),
            }
        }
    }
    if ports.is_empty() {
        ports.insert(number);
    }
    ports.into_iter().collect()
}
