//! The kinds of objects, and what the Kubernetes API calls them.

/// A kind of object: Istio's, and Kubernetes' that the mesh reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is the kind of its own name")]
pub enum Kind {
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
    Telemetry,
    WasmPlugin,
    TrafficExtension,
    Namespace,
    Node,
    Service,
    Pod,
    ServiceAccount,
    Secret,
    ConfigMap,
    EndpointSlice,
    Deployment,
}

/// What the Kubernetes API knows of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindInfo {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Name of the kind.
    pub kind: &'static str,
    /// Name in URLs.
    pub plural: &'static str,
    /// Abbreviation for command lines.
    pub short: Option<&'static str>,
    /// Versions, newest first. All have one shape.
    pub versions: &'static [&'static str],
    /// Version that is stored.
    pub storage: &'static str,
    /// Whether objects lie in a namespace.
    pub namespaced: bool,
    /// Columns of `kubectl get`.
    pub columns: &'static [Column],
    /// Whether this program reads the kind.
    pub supported: bool,
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// JSON path of the value.
    pub path: &'static str,
    /// `string` or `date`.
    pub kind: &'static str,
    /// Explanation.
    pub description: &'static str,
}

/// Why no kind goes by an `apiVersion` and `kind`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// Nobody knows it.
    #[error("kind {kind:?} of {api_version:?} is not read by the mesh; known kinds: {}", known())]
    Unknown {
        /// As written.
        api_version: String,
        /// As written.
        kind: String,
    },
    /// The kind exists, under other versions.
    #[error("{kind} has no version {api_version:?}; write one of {expected}")]
    Version {
        /// As written.
        api_version: String,
        /// Name of the kind.
        kind: &'static str,
        /// What can be written.
        expected: String,
    },
    /// The kind is Istio's, and this program does not read it yet.
    #[error("{0} is a kind of Istio that is not supported yet; the object has no effect")]
    Unsupported(&'static str),
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const EXTENSIONS: &str = "extensions.istio.io";

const AGE: Column = Column {
    name: "Age",
    path: ".metadata.creationTimestamp",
    kind: "date",
    description: "Time since the object was created.",
};

const fn text(name: &'static str, path: &'static str, description: &'static str) -> Column {
    Column {
        name,
        path,
        kind: "string",
        description,
    }
}

const fn istio(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: Option<&'static str>,
    versions: &'static [&'static str],
    columns: &'static [Column],
) -> KindInfo {
    KindInfo {
        group,
        kind,
        plural,
        short,
        versions,
        storage: versions[0],
        namespaced: true,
        columns,
        supported: true,
    }
}

const fn kubernetes(group: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> KindInfo {
    KindInfo {
        group,
        kind,
        plural,
        short: None,
        versions: &["v1"],
        storage: "v1",
        namespaced,
        columns: &[],
        supported: true,
    }
}

const V1_TO_ALPHA3: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const V1_V1BETA1: &[&str] = &["v1", "v1beta1"];

impl Kind {
    /// Istio's kinds, in the order of Istio's own manifests; the two that are not supported come last.
    pub const ISTIO: [Self; 15] = [
        Self::VirtualService,
        Self::DestinationRule,
        Self::Gateway,
        Self::ServiceEntry,
        Self::Sidecar,
        Self::WorkloadEntry,
        Self::WorkloadGroup,
        Self::EnvoyFilter,
        Self::ProxyConfig,
        Self::PeerAuthentication,
        Self::RequestAuthentication,
        Self::AuthorizationPolicy,
        Self::Telemetry,
        Self::WasmPlugin,
        Self::TrafficExtension,
    ];

    /// Kubernetes' kinds that the mesh reads.
    pub const KUBERNETES: [Self; 9] = [
        Self::Namespace,
        Self::Node,
        Self::Service,
        Self::Pod,
        Self::ServiceAccount,
        Self::Secret,
        Self::ConfigMap,
        Self::EndpointSlice,
        Self::Deployment,
    ];

    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ISTIO.into_iter().chain(Self::KUBERNETES)
    }

    /// What the Kubernetes API knows of the kind.
    #[must_use]
    pub const fn info(self) -> KindInfo {
        match self {
            Self::VirtualService => istio(
                NETWORKING,
                "VirtualService",
                "virtualservices",
                Some("vs"),
                V1_TO_ALPHA3,
                const {
                    &[
                        text(
                            "Gateways",
                            ".spec.gateways",
                            "Gateways and sidecars that the routes are for.",
                        ),
                        text("Hosts", ".spec.hosts", "Hosts that the routes are for."),
                        AGE,
                    ]
                },
            ),
            Self::DestinationRule => istio(
                NETWORKING,
                "DestinationRule",
                "destinationrules",
                Some("dr"),
                V1_TO_ALPHA3,
                const { &[text("Host", ".spec.host", "Service that the rule is for."), AGE] },
            ),
            Self::Gateway => istio(NETWORKING, "Gateway", "gateways", Some("gw"), V1_TO_ALPHA3, &[]),
            Self::ServiceEntry => istio(
                NETWORKING,
                "ServiceEntry",
                "serviceentries",
                Some("se"),
                V1_TO_ALPHA3,
                const {
                    &[
                        text("Hosts", ".spec.hosts", "Names of the service."),
                        text(
                            "Location",
                            ".spec.location",
                            "Inside (MESH_INTERNAL) or outside (MESH_EXTERNAL) of the mesh.",
                        ),
                        text("Resolution", ".spec.resolution", "How the endpoints are found."),
                        AGE,
                    ]
                },
            ),
            Self::Sidecar => istio(NETWORKING, "Sidecar", "sidecars", None, V1_TO_ALPHA3, &[]),
            Self::WorkloadEntry => istio(
                NETWORKING,
                "WorkloadEntry",
                "workloadentries",
                Some("we"),
                V1_TO_ALPHA3,
                const { &[AGE, text("Address", ".spec.address", "Address of the workload.")] },
            ),
            Self::WorkloadGroup => istio(
                NETWORKING,
                "WorkloadGroup",
                "workloadgroups",
                Some("wg"),
                V1_TO_ALPHA3,
                &[AGE],
            ),
            Self::EnvoyFilter => istio(NETWORKING, "EnvoyFilter", "envoyfilters", None, &["v1alpha3"], &[]),
            Self::ProxyConfig => istio(NETWORKING, "ProxyConfig", "proxyconfigs", None, &["v1beta1"], &[]),
            Self::PeerAuthentication => istio(
                SECURITY,
                "PeerAuthentication",
                "peerauthentications",
                Some("pa"),
                V1_V1BETA1,
                const { &[text("Mode", ".spec.mtls.mode", "Whether mutual TLS is needed."), AGE] },
            ),
            Self::RequestAuthentication => istio(
                SECURITY,
                "RequestAuthentication",
                "requestauthentications",
                Some("ra"),
                V1_V1BETA1,
                &[],
            ),
            Self::AuthorizationPolicy => istio(
                SECURITY,
                "AuthorizationPolicy",
                "authorizationpolicies",
                Some("ap"),
                V1_V1BETA1,
                const { &[text("Action", ".spec.action", "What a match does."), AGE] },
            ),
            Self::Telemetry => KindInfo {
                // As Istio has it: v1 is served, v1alpha1 is what is stored.
                storage: "v1alpha1",
                ..istio(
                    TELEMETRY,
                    "Telemetry",
                    "telemetries",
                    Some("telemetry"),
                    &["v1", "v1alpha1"],
                    &[AGE],
                )
            },
            Self::WasmPlugin => KindInfo {
                supported: false,
                ..istio(EXTENSIONS, "WasmPlugin", "wasmplugins", None, &["v1alpha1"], &[AGE])
            },
            Self::TrafficExtension => KindInfo {
                supported: false,
                ..istio(
                    EXTENSIONS,
                    "TrafficExtension",
                    "trafficextensions",
                    None,
                    &["v1alpha1"],
                    &[AGE],
                )
            },
            Self::Namespace => kubernetes("", "Namespace", "namespaces", false),
            Self::Node => kubernetes("", "Node", "nodes", false),
            Self::Service => kubernetes("", "Service", "services", true),
            Self::Pod => kubernetes("", "Pod", "pods", true),
            Self::ServiceAccount => kubernetes("", "ServiceAccount", "serviceaccounts", true),
            Self::Secret => kubernetes("", "Secret", "secrets", true),
            Self::ConfigMap => kubernetes("", "ConfigMap", "configmaps", true),
            Self::EndpointSlice => kubernetes("discovery.k8s.io", "EndpointSlice", "endpointslices", true),
            Self::Deployment => kubernetes("apps", "Deployment", "deployments", true),
        }
    }

    /// The kind that a document's `apiVersion` and `kind` name.
    ///
    /// # Errors
    /// If nobody knows it, if it has no such version, or if it is not supported yet.
    pub fn resolve(api_version: &str, kind: &str) -> Result<Self, KindError> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let Some(found) = Self::all().find(|k| k.info().kind == kind && k.info().group == group) else {
            return Err(KindError::Unknown {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            });
        };
        let info = found.info();
        if !info.versions.contains(&version) {
            let expected: Vec<String> = info.versions.iter().map(|v| info.api_version(v)).collect();
            return Err(KindError::Version {
                api_version: api_version.to_owned(),
                kind: info.kind,
                expected: expected.join(", "),
            });
        }
        if info.supported {
            Ok(found)
        } else {
            Err(KindError::Unsupported(info.kind))
        }
    }

    /// Name of the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.info().kind
    }

    /// The `apiVersion` under which objects are named in provenance and stored: `networking.istio.io/v1`.
    #[must_use]
    pub fn api_version(self) -> String {
        let info = self.info();
        info.api_version(info.storage)
    }
}

impl KindInfo {
    /// `group/version`, or only the version in the core group.
    #[must_use]
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The supported kinds by group, for error messages.
fn known() -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for info in Kind::all().map(Kind::info).filter(|info| info.supported) {
        match groups.iter_mut().find(|(group, _)| *group == info.group) {
            Some((_, kinds)) => kinds.push(info.kind),
            None => groups.push((info.group, vec![info.kind])),
        }
    }
    let parts: Vec<String> = groups
        .into_iter()
        .map(|(group, kinds)| format!("{} ({})", if group.is_empty() { "v1" } else { group }, kinds.join(", ")))
        .collect();
    parts.join("; ")
}
