//! What is spoken on a port.

/// Protocol of a service port, from `appProtocol`, the port's name, or its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// TLS with HTTP inside; routed by SNI.
    Https,
    /// TLS; routed by SNI.
    Tls,
    /// Opaque bytes.
    Tcp,
    /// MongoDB, carried as opaque bytes.
    Mongo,
    /// Redis, carried as opaque bytes.
    Redis,
    /// MySQL, carried as opaque bytes.
    Mysql,
    /// Not carried by the mesh.
    Udp,
    /// Nobody said: found out by looking at the first bytes.
    Auto,
}

/// Ports whose protocols wait for the server to speak first: looking at the client's bytes would hang.
pub(crate) const SERVER_FIRST_PORTS: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// Reads a name such as `http`, `grpc-web` or `HTTPS`; `None` for a name that says nothing.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" | "http_proxy" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" => Self::Tcp,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            "udp" => Self::Udp,
            _ => return None,
        })
    }

    /// Protocol of a Kubernetes service port: L4 protocol, then `appProtocol`, then the name up to its first `-`, then
    /// the number.
    pub fn of_kubernetes(l4: Option<&str>, app: Option<&str>, name: &str, number: u16) -> Self {
        if l4 == Some("UDP") {
            return Self::Udp;
        }
        if let Some(app) = app {
            let known = match app {
                "kubernetes.io/h2c" => Some(Self::Http2),
                "kubernetes.io/ws" => Some(Self::Http),
                "kubernetes.io/wss" => Some(Self::Https),
                other => Self::parse(other),
            };
            if let Some(known) = known {
                return known;
            }
        }
        let lower = name.to_ascii_lowercase();
        let by_name = if lower == "grpc-web" || lower.starts_with("grpc-web-") {
            Some(Self::GrpcWeb)
        } else {
            Self::parse(lower.split('-').next().unwrap_or_default())
        };
        match by_name {
            // A TCP port that is called "udp-…" is still TCP, and then nobody knows what is spoken on it.
            Some(Self::Udp) | None if SERVER_FIRST_PORTS.contains(&number) => Self::Tcp,
            Some(Self::Udp) | None => Self::Auto,
            Some(known) => known,
        }
    }

    /// HTTP of any version, in the clear.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// HTTP/2 towards the application.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// TLS that the mesh does not open.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Opaque bytes (TLS that is not opened among them).
    pub fn is_tcp(self) -> bool {
        matches!(
            self,
            Self::Tcp | Self::Mongo | Self::Redis | Self::Mysql | Self::Https | Self::Tls
        )
    }

    /// To be detected.
    pub fn is_auto(self) -> bool {
        self == Self::Auto
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_app_protocol_say_what_is_spoken() {
        for (l4, app, name, number, expected) in [
            (None, None, "http", 80, Protocol::Http),
            (None, None, "HTTP-web", 80, Protocol::Http),
            (None, None, "grpc-web", 80, Protocol::GrpcWeb),
            (None, None, "grpc-api", 80, Protocol::Grpc),
            (None, None, "web", 80, Protocol::Auto),
            (None, None, "", 3306, Protocol::Tcp),
            (None, Some("kubernetes.io/h2c"), "tcp", 80, Protocol::Http2),
            (None, Some("example.com/own"), "https", 443, Protocol::Https),
            (Some("UDP"), None, "http", 53, Protocol::Udp),
            (Some("TCP"), None, "udp-thing", 99, Protocol::Auto),
        ] {
            assert_eq!(
                Protocol::of_kubernetes(l4, app, name, number),
                expected,
                "{name} {number}"
            );
        }
    }
}
