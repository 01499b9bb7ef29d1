//! Sidecar: what a workload's proxy listens on and sees.

use super::{
    ConnectionPoolSettings, Destination, ServerTlsSettings, WorkloadLabels,
    message::{message, names},
};

message! {
    /// Listeners and scope of the sidecars of a namespace, or of the workloads that are selected.
    pub struct Sidecar {
        /// Workloads; all of the namespace if absent.
        pub workload_selector: Option<WorkloadLabels>,
        /// Inbound listeners in place of those derived from services.
        pub ingress: Vec<IstioIngressListener>,
        /// Outbound listeners and visible hosts.
        pub egress: Vec<IstioEgressListener>,
        /// Limits of inbound connections.
        pub inbound_connection_pool: Option<ConnectionPoolSettings>,
        /// What is done with unknown destinations.
        pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }

    /// An inbound listener.
    pub struct IstioIngressListener {
        /// Port.
        #[schemars(extend("x-required" = true))]
        pub port: SidecarPort,
        /// Address.
        pub bind: String,
        /// How traffic comes to it.
        pub capture_mode: CaptureMode,
        /// Where it goes: `127.0.0.1:PORT`, `0.0.0.0:PORT`, `[::1]:PORT` or `unix:///path`.
        pub default_endpoint: String,
        /// TLS of strangers, terminated here.
        pub tls: Option<ServerTlsSettings>,
        /// Limits of connections, in place of `inboundConnectionPool`.
        pub connection_pool: Option<ConnectionPoolSettings>,
    }

    /// An outbound listener, or (without a port) the default for all others.
    pub struct IstioEgressListener {
        /// Port.
        pub port: Option<SidecarPort>,
        /// Address, or `unix:///path`.
        pub bind: String,
        /// How traffic comes to it.
        pub capture_mode: CaptureMode,
        /// Visible services, `namespace/dnsName`.
        #[schemars(extend("x-required" = true))]
        pub hosts: Vec<String>,
    }

    /// A port of a Sidecar.
    pub struct SidecarPort {
        /// Number.
        pub number: u32,
        /// Protocol.
        pub protocol: String,
        /// Name.
        pub name: String,
        /// Without effect.
        pub target_port: u32,
    }

    /// What is done with unknown destinations.
    pub struct OutboundTrafficPolicy {
        /// Refused, or passed on.
        pub mode: OutboundTrafficMode,
        /// Where they are sent (with ALLOW_ANY).
        pub egress_proxy: Option<Destination>,
    }
}

names! {
    /// How traffic comes to a listener.
    pub enum CaptureMode {
        /// As the mesh has it.
        Default = "DEFAULT",
        /// By iptables.
        Iptables = "IPTABLES",
        /// The application addresses the listener itself.
        None = "NONE",
    }

    /// What is done with unknown destinations.
    pub enum OutboundTrafficMode {
        /// Refused.
        RegistryOnly = "REGISTRY_ONLY",
        /// Passed on.
        AllowAny = "ALLOW_ANY",
    }
}
