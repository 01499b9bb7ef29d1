//! Ports of the proxy's own workload that services lead to.

use std::collections::BTreeMap;

use mesh_api::istio::ConnectionPoolSettings;

use super::context::Context;
use super::ingress;
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
    /// Host in statistics and traces: the first service's, or `NAME.NAMESPACE` of a Sidecar.
    pub(super) host: String,
    /// Port of that service.
    pub(super) service_port: u16,
    /// Limits of connections to the application.
    pub(super) pool: Option<&'a ConnectionPoolSettings>,
    /// Where connections go, if not where they are for.
    pub(super) endpoint: Option<LocalEndpoint>,
    /// Address of a listener of its own, in place of captured connections.
    pub(super) bind: Option<String>,
}

/// Where a Sidecar sends what comes to a port.
pub(super) struct LocalEndpoint {
    /// Of the machine or the Pod.
    pub(super) address: String,
    pub(super) port: u16,
    /// The address is the Pod's own, connections to which would be captured.
    pub(super) of_pod: bool,
}

/// All of them, by number.
pub(super) fn ports<'a>(ctx: &'a Context<'_>) -> Vec<InboundPort<'a>> {
    let mut derived = of_services(ctx);
    let Some(view) = ctx.sidecar else { return derived };
    let spec = &view.object.spec;
    if !spec.ingress.is_empty() {
        return ingress::ports(ctx, view, &derived);
    }
    for port in &mut derived {
        port.pool = spec.inbound_connection_pool.as_ref();
    }
    derived
}

/// Those that services lead to.
fn of_services<'a>(ctx: &'a Context<'_>) -> Vec<InboundPort<'a>> {
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
                host: service.host.clone(),
                service_port: port.number,
                pool: None,
                endpoint: None,
                bind: None,
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
