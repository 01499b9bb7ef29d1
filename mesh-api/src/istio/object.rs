//! Any object that the mesh reads.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    AuthorizationPolicy, DestinationRule, EnvoyFilter, FieldError, Gateway, Kind, Object, PeerAuthentication,
    ProxyConfig, RequestAuthentication, ServiceEntry, Sidecar, Telemetry, VirtualService, WorkloadEntry, WorkloadGroup,
    error::{At, Findings},
    parse::kubernetes,
};
use crate::k8s;

/// The `spec` of one of Istio's kinds.
pub trait Spec: DeserializeOwned + Default {
    /// Which kind it is the spec of.
    const KIND: Kind;

    /// Everything that is wrong with it, or perhaps not as meant. Paths begin with `spec`.
    fn validate(&self) -> Vec<FieldError>;
}

/// A Kubernetes object, with the fields of it that its type does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Kubernetes<T> {
    /// The object.
    pub object: T,
    /// Fields that have no effect.
    pub warnings: Vec<FieldError>,
}

macro_rules! any_object {
    (istio: $($istio:ident),*; kubernetes: $($kubernetes:ident),*;) => {
        /// An object of any kind that the mesh reads.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "each variant is the kind of its own name")]
        pub enum AnyObject {
            $($istio(Object<$istio>),)*
            $($kubernetes(Kubernetes<k8s::$kubernetes>),)*
        }

        impl AnyObject {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$istio(_) => Kind::$istio,)*
                    $(Self::$kubernetes(_) => Kind::$kubernetes,)*
                }
            }

            /// Its name; empty if it has none.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$istio(o) => &o.meta.name,)*
                    $(Self::$kubernetes(o) => o.object.metadata.name.as_deref().unwrap_or_default(),)*
                }
            }

            /// Its namespace; empty if it says none.
            #[must_use]
            pub fn namespace(&self) -> &str {
                match self {
                    $(Self::$istio(o) => &o.meta.namespace,)*
                    $(Self::$kubernetes(o) => o.object.metadata.namespace.as_deref().unwrap_or_default(),)*
                }
            }

            /// Gives it a namespace, if its kind lies in one.
            pub fn set_namespace(&mut self, namespace: &str) {
                if !self.kind().info().namespaced {
                    return;
                }
                match self {
                    $(Self::$istio(o) => namespace.clone_into(&mut o.meta.namespace),)*
                    $(Self::$kubernetes(o) => o.object.metadata.namespace = Some(namespace.to_owned()),)*
                }
            }

            /// Everything that is wrong with it, or perhaps not as meant.
            #[must_use]
            pub fn validate(&self) -> Vec<FieldError> {
                let mut findings = Findings::default();
                check_name(self.kind(), self.name(), &mut findings);
                let mut found = findings.0;
                match self {
                    $(Self::$istio(o) => found.extend(o.spec.validate()),)*
                    $(Self::$kubernetes(o) => found.extend(o.warnings.iter().cloned()),)*
                }
                found
            }
        }

        /// Reads a Kubernetes object.
        pub(super) fn kubernetes_object(kind: Kind, value: &Value) -> Result<AnyObject, Vec<FieldError>> {
            match kind {
                $(Kind::$kubernetes => kubernetes(value)
                    .map(|(object, warnings)| AnyObject::$kubernetes(Kubernetes { object, warnings })),)*
                // Istio's kinds were read by the caller.
                other => Err(vec![FieldError::error("kind", format!("{other} is not a kind of Kubernetes"))]),
            }
        }
    };
}

any_object! {
    istio: VirtualService, DestinationRule, Gateway, ServiceEntry, Sidecar, WorkloadEntry, WorkloadGroup, EnvoyFilter,
        ProxyConfig, PeerAuthentication, RequestAuthentication, AuthorizationPolicy, Telemetry;
    kubernetes: Namespace, Node, Service, Pod, ServiceAccount, Secret, ConfigMap, EndpointSlice, Deployment;
}

impl AnyObject {
    /// What is perhaps not as meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<FieldError> {
        self.validate()
            .into_iter()
            .filter(|finding| !finding.is_error())
            .collect()
    }
}

fn check_name(kind: Kind, name: &str, findings: &mut Findings) {
    let at = At::root("metadata");
    let at = at.field("name");
    // Names of Services are DNS labels, all others may hold dots.
    let dots = kind != Kind::Service && kind != Kind::Namespace;
    if name.is_empty() {
        findings.error(&at, "the object needs a name");
    } else if !super::syntax::is_dns1123(name, dots) {
        findings.error(
            &at,
            format!("{name:?} is no name for a {kind}: use lower-case letters, digits and '-', and begin and end with a letter or digit"),
        );
    }
}
