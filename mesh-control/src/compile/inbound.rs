//! Ports of the proxy's own workload that services lead to.

use std::collections::BTreeMap;

use super::context::Context;
use crate::store::protocol::Protocol;
use crate::store::service::{Service, ServicePort, TargetPort};

/// A port of the workload, and the services that lead to it.
pub(super) struct InboundPort<'a> {
    /// Port of the workload.
    pub(super) port: u16,
    /// What is spoken, as the first of the services says.
    pub(super) protocol: Protocol,
    /// Services with their ports, oldest first.
    pub(super) services: Vec<(&'a Service, &'a ServicePort)>,
}

/// All of them, by number.
pub(super) fn ports<'a>(ctx: &'a Context<'_>) -> Vec<InboundPort<'a>> {
    let mut services: Vec<&Service> = ctx
        .store
        .services_of(ctx.namespace, ctx.labels, &ctx.addresses)
        .map(AsRef::as_ref)
        .collect();
    services.sort_by(|a, b| (a.created, &a.host).cmp(&(b.created, &b.host)));

    let mut found: BTreeMap<u16, InboundPort<'a>> = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            let Some(target) = target(ctx, service, port) else {
                ctx.warn(
                    format!("Service {}/{}", service.namespace, service.name),
                    "spec.ports",
                    format!(
                        "targetPort of port {} names no container port of pod {}/{}; its traffic is passed on without policy",
                        port.number, ctx.namespace, ctx.proxy.id.pod
                    ),
                );
                continue;
            };
            let entry = found.entry(target).or_insert_with(|| InboundPort {
                port: target,
                protocol: port.protocol,
                services: Vec::new(),
            });
            if entry.protocol != port.protocol {
                ctx.warn(
                    format!("Service {}/{}", service.namespace, service.name),
                    "spec.ports",
                    format!(
                        "port {} says another protocol for workload port {target} than service {}, which is older and wins; \
                         give both the same name prefix or appProtocol",
                        port.number, entry.services[0].0.host
                    ),
                );
            }
            entry.services.push((service, port));
        }
    }
    found.into_values().collect()
}

/// The workload's port behind a service port.
fn target(ctx: &Context<'_>, service: &Service, port: &ServicePort) -> Option<u16> {
    let listed = || {
        let endpoints = ctx.store.endpoints(service).get(&port.number)?;
        endpoints
            .iter()
            .find(|e| ctx.addresses.contains(&e.address))
            .map(|e| e.port)
    };
    match &port.target {
        // An EndpointSlice or a WorkloadEntry may say another port than the service.
        TargetPort::Number(number) => listed().or(Some(*number)),
        TargetPort::Name(name) => ctx.named_port(name).or_else(listed),
    }
}
