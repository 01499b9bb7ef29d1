//! Ingress listeners of a Sidecar: ports of the workload in place of those that services lead to.

use mesh_api::istio::{CaptureMode, IstioIngressListener};

use super::context::Context;
use super::inbound::{InboundPort, LocalEndpoint};
use super::listener::wildcard;
use crate::store::protocol::Protocol;
use crate::store::sidecar::View;

/// Its ports, by number. `derived` are those that services lead to: their names stay.
pub(super) fn ports<'a>(ctx: &Context<'_>, view: &'a View, derived: &[InboundPort<'a>]) -> Vec<InboundPort<'a>> {
    let meta = &view.object.meta;
    let mut found: Vec<InboundPort<'a>> = Vec::new();
    for (index, listener) in view.object.spec.ingress.iter().enumerate() {
        let Some(port) = u16::try_from(listener.port.number).ok().filter(|p| *p > 0) else {
            continue;
        };
        // Reported with the object.
        if listener.default_endpoint.starts_with("unix://") || found.iter().any(|p| p.port == port) {
            continue;
        }
        let bind = bound(ctx, listener);
        let endpoint = local_endpoint(ctx, &listener.default_endpoint);
        if bind.is_some() && endpoint.is_none() {
            ctx.warn(
                view.name(),
                format!("spec.ingress[{index}].defaultEndpoint"),
                "is missing: with captureMode NONE connections are made to the proxy itself, and nothing else says where they go. \
                 The listener is left out",
            );
            continue;
        }
        let service = derived.iter().find(|p| p.port == port);
        found.push(InboundPort {
            port,
            protocol: Protocol::parse(&listener.port.protocol).unwrap_or(Protocol::Auto),
            services: service.map(|p| p.services.clone()).unwrap_or_default(),
            host: service.map_or_else(|| format!("{}.{}", meta.name, meta.namespace), |p| p.host.clone()),
            service_port: service.map_or(port, |p| p.service_port),
            pool: listener
                .connection_pool
                .as_ref()
                .or(view.object.spec.inbound_connection_pool.as_ref()),
            endpoint,
            bind,
        });
    }
    found.sort_by_key(|p| p.port);
    found
}

/// Address of a listener that the proxy opens itself.
fn bound(ctx: &Context<'_>, listener: &IstioIngressListener) -> Option<String> {
    (listener.capture_mode == CaptureMode::None).then(|| match listener.bind.as_str() {
        "" => wildcard(ctx).to_owned(),
        bind => bind.to_owned(),
    })
}

/// `127.0.0.1:8080`; all addresses stand for the Pod's own.
fn local_endpoint(ctx: &Context<'_>, text: &str) -> Option<LocalEndpoint> {
    let (address, port) = text.rsplit_once(':')?;
    let of_pod = matches!(address, "0.0.0.0" | "[::]");
    Some(LocalEndpoint {
        address: if of_pod {
            ctx.proxy.id.ip.to_string()
        } else {
            address.trim_matches(['[', ']']).to_owned()
        },
        port: port.parse().ok()?,
        of_pod,
    })
}
