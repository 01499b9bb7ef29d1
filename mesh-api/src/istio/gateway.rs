//! Gateway: the ports that a gateway proxy opens.

use std::collections::BTreeMap;

use super::{ServerTlsSettings, message::message};

message! {
    /// Ports of the gateway pods that `selector` chooses.
    pub struct Gateway {
        /// Open ports.
        pub servers: Vec<Server>,
        /// Labels of the gateway's pods.
        pub selector: BTreeMap<String, String>,
    }

    /// One open port.
    pub struct Server {
        /// The port.
        #[schemars(extend("x-required" = true))]
        pub port: Port,
        /// Address to listen on; all if empty.
        pub bind: String,
        /// Hosts that are served: `host`, `namespace/host`, `./host`, `*/host`.
        #[schemars(extend("x-required" = true))]
        pub hosts: Vec<String>,
        /// TLS; needed for HTTPS and TLS.
        pub tls: Option<ServerTlsSettings>,
        /// Backend in place of routes.
        pub default_endpoint: String,
        /// Name, seen in statistics.
        pub name: String,
    }

    /// A port and what is spoken on it.
    pub struct Port {
        /// Number.
        #[schemars(extend("x-required" = true))]
        pub number: u32,
        /// HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS.
        #[schemars(extend("x-required" = true))]
        pub protocol: String,
        /// Name, unique in the object.
        #[schemars(extend("x-required" = true))]
        pub name: String,
        /// Deprecated, without effect.
        pub target_port: u32,
    }
}
