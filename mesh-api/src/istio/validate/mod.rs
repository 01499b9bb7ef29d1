//! The rules of each kind: what Istio refuses is refused, with the path of the field and what to do.

mod common;
mod destination_rule;
mod envoy_filter;
mod gateway;
mod http;
mod load_balancer;
mod security;
mod service_entry;
mod sidecar;
mod telemetry;
#[cfg(test)]
mod tests;
mod virtual_service;

use super::{
    AuthorizationPolicy, DestinationRule, EnvoyFilter, FieldError, Gateway, Kind, PeerAuthentication, ProxyConfig,
    RequestAuthentication, ServiceEntry, Sidecar, Spec, Telemetry, VirtualService, WorkloadEntry, WorkloadGroup,
    error::{At, Findings},
};

macro_rules! specs {
    ($($kind:ident => $check:expr,)*) => {$(
        impl Spec for $kind {
            const KIND: Kind = Kind::$kind;

            fn validate(&self) -> Vec<FieldError> {
                let mut findings = Findings::default();
                $check(self, &At::root("spec"), &mut findings);
                findings.0
            }
        }
    )*};
}

specs! {
    VirtualService => virtual_service::check,
    DestinationRule => destination_rule::check,
    Gateway => gateway::check,
    ServiceEntry => service_entry::check,
    Sidecar => sidecar::check,
    WorkloadEntry => |spec, at: &At<'_>, f: &mut Findings| service_entry::workload(at, spec, true, f),
    WorkloadGroup => service_entry::group,
    EnvoyFilter => envoy_filter::check,
    ProxyConfig => telemetry::proxy_config,
    PeerAuthentication => security::peer,
    RequestAuthentication => security::request,
    AuthorizationPolicy => security::authorization,
    Telemetry => telemetry::check,
}
