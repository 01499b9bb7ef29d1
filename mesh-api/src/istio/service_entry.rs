//! ServiceEntry, WorkloadEntry and WorkloadGroup: services and workloads that Kubernetes does not know.

use std::collections::BTreeMap;

use super::{
    WorkloadLabels,
    message::{message, names},
};

message! {
    /// A service that is added to the mesh's registry.
    pub struct ServiceEntry {
        /// Names of the service.
        #[schemars(extend("x-required" = true), length(min = 1, max = 256))]
        pub hosts: Vec<String>,
        /// Virtual addresses or ranges.
        #[schemars(length(max = 256))]
        pub addresses: Vec<String>,
        /// Ports.
        #[schemars(length(max = 256))]
        pub ports: Vec<ServicePort>,
        /// Inside or outside of the mesh.
        pub location: Location,
        /// How endpoints are found.
        pub resolution: Resolution,
        /// Endpoints, by address or DNS name.
        #[schemars(length(max = 4096))]
        pub endpoints: Vec<WorkloadEntry>,
        /// Pods and WorkloadEntries that are the endpoints.
        pub workload_selector: Option<WorkloadLabels>,
        /// Namespaces that see the service.
        pub export_to: Vec<String>,
        /// Names that the server's certificate may have.
        pub subject_alt_names: Vec<String>,
    }

    /// A port of the service.
    pub struct ServicePort {
        /// Number.
        #[schemars(extend("x-required" = true), range(min = 1, max = 65535))]
        pub number: u32,
        /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS.
        #[schemars(length(max = 256))]
        pub protocol: String,
        /// Name, unique in the object.
        #[schemars(extend("x-required" = true), length(max = 256))]
        pub name: String,
        /// Port of the endpoints; `number` if 0.
        #[schemars(range(max = 65535))]
        pub target_port: u32,
    }

    /// A workload: the spec of a WorkloadEntry, an endpoint of a ServiceEntry, the template of a WorkloadGroup.
    pub struct WorkloadEntry {
        /// Address, DNS name, or `unix:///path`.
        #[schemars(length(max = 256))]
        pub address: String,
        /// Port by its name in the service.
        pub ports: BTreeMap<String, u32>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Network, for meshes of several.
        #[schemars(length(max = 2048))]
        pub network: String,
        /// `region/zone/subzone`.
        #[schemars(length(max = 2048))]
        pub locality: String,
        /// Share of the traffic.
        pub weight: u32,
        /// Service account that it runs as.
        #[schemars(length(max = 253))]
        pub service_account: String,
    }

    /// Workloads that enter the mesh by themselves.
    pub struct WorkloadGroup {
        /// Labels and annotations of the WorkloadEntries that are made.
        pub metadata: Option<WorkloadGroupMeta>,
        /// Spec of the WorkloadEntries that are made.
        #[schemars(extend("x-required" = true))]
        pub template: WorkloadEntry,
        /// Health check that the workload's agent makes.
        pub probe: Option<ReadinessProbe>,
    }

    /// Labels and annotations.
    pub struct WorkloadGroupMeta {
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Annotations.
        pub annotations: BTreeMap<String, String>,
    }

    /// A health check: one of `httpGet`, `tcpSocket`, `exec` and `grpc`.
    pub struct ReadinessProbe {
        /// Pause before the first.
        pub initial_delay_seconds: i32,
        /// Limit for each; 1 if 0.
        pub timeout_seconds: i32,
        /// Time between two; 10 if 0.
        pub period_seconds: i32,
        /// Successes in a row that make it healthy; 1 if 0.
        pub success_threshold: i32,
        /// Failures in a row that make it unhealthy; 3 if 0.
        pub failure_threshold: i32,
        /// By an HTTP request.
        pub http_get: Option<HttpHealthCheck>,
        /// By opening a connection.
        pub tcp_socket: Option<TcpHealthCheck>,
        /// By running a command.
        pub exec: Option<ExecHealthCheck>,
        /// By gRPC's health service.
        pub grpc: Option<GrpcHealthCheck>,
    }

    /// A health check by HTTP.
    pub struct HttpHealthCheck {
        /// Path.
        pub path: String,
        /// Port.
        #[schemars(extend("x-required" = true), range(max = 65535))]
        pub port: u32,
        /// Host.
        pub host: String,
        /// `HTTP` (also if empty) or `HTTPS`.
        pub scheme: String,
        /// Headers.
        pub http_headers: Vec<HttpHeader>,
    }

    /// A header.
    pub struct HttpHeader {
        /// Name.
        pub name: String,
        /// Value.
        pub value: String,
    }

    /// A health check by TCP.
    pub struct TcpHealthCheck {
        /// Host; `localhost` if empty.
        pub host: String,
        /// Port.
        #[schemars(extend("x-required" = true), range(max = 65535))]
        pub port: u32,
    }

    /// A health check by command.
    pub struct ExecHealthCheck {
        /// Program and arguments.
        #[schemars(extend("x-required" = true))]
        pub command: Vec<String>,
    }

    /// A health check by gRPC.
    pub struct GrpcHealthCheck {
        /// Port.
        #[schemars(range(max = 65535))]
        pub port: u32,
        /// Name of the service.
        pub service: String,
    }
}

names! {
    /// Whether a service is part of the mesh.
    pub enum Location {
        /// Outside: no mutual TLS.
        MeshExternal = "MESH_EXTERNAL",
        /// Inside.
        MeshInternal = "MESH_INTERNAL",
    }

    /// How the endpoints of a service are found.
    pub enum Resolution {
        /// The address that the client asked for.
        None = "NONE",
        /// Those listed or selected.
        Static = "STATIC",
        /// By DNS, all answers.
        Dns = "DNS",
        /// By DNS, the first answer at the time of each connection.
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        /// By DNS, of the name that the request is for.
        DynamicDns = "DYNAMIC_DNS",
    }
}
