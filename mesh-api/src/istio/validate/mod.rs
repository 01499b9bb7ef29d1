//! The rules of each kind.

use super::{
    AuthorizationPolicy, DestinationRule, EnvoyFilter, FieldError, Gateway, Kind, PeerAuthentication, ProxyConfig,
    RequestAuthentication, ServiceEntry, Sidecar, Spec, Telemetry, VirtualService, WorkloadEntry, WorkloadGroup,
};

macro_rules! specs {
    ($($kind:ident),*) => {$(
        impl Spec for $kind {
            const KIND: Kind = Kind::$kind;

            fn validate(&self) -> Vec<FieldError> {
                Vec::new()
            }
        }
    )*};
}

specs!(
    VirtualService,
    DestinationRule,
    Gateway,
    ServiceEntry,
    Sidecar,
    WorkloadEntry,
    WorkloadGroup,
    EnvoyFilter,
    ProxyConfig,
    PeerAuthentication,
    RequestAuthentication,
    AuthorizationPolicy,
    Telemetry
);
