//! Names that users, dashboards and tools rely on: one place for each format.

use std::fmt;

/// Ports of a pod in the mesh.
pub mod port {
    /// Admin API of the proxy (loopback only).
    pub const ADMIN: u16 = 15000;
    /// Captured outbound traffic, listener [`super::VIRTUAL_OUTBOUND`].
    pub const OUTBOUND: u16 = 15001;
    /// Captured inbound traffic, listener [`super::VIRTUAL_INBOUND`].
    pub const INBOUND: u16 = 15006;
    /// HBONE tunnel.
    pub const HBONE: u16 = 15008;
    /// Plaintext xDS of the control plane.
    pub const XDS_PLAINTEXT: u16 = 15010;
    /// xDS and CA of the control plane, over TLS.
    pub const XDS_TLS: u16 = 15012;
    /// Metrics and debug pages of the control plane.
    pub const CONTROL_MONITORING: u16 = 15014;
    /// Webhooks of the control plane.
    pub const WEBHOOKS: u16 = 15017;
    /// Agent: merged Prometheus metrics, health, application probes.
    pub const STATUS: u16 = 15020;
    /// Readiness of the proxy (`/healthz/ready`).
    pub const READINESS: u16 = 15021;
    /// DNS proxy in the pod.
    pub const DNS: u16 = 15053;
    /// Metrics of the proxy (`/stats/prometheus`).
    pub const PROXY_METRICS: u16 = 15090;
    /// SNI port of multi-network gateways.
    pub const SNI_DNAT: u16 = 15443;
}

/// Listener of captured outbound traffic.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// Listener of captured inbound traffic.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";
/// Cluster that refuses.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// Cluster that goes to the original destination.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// Cluster that goes to the name that a request is for, where `outboundTrafficPolicy` says so.
pub const ALLOW_ANY_DYNAMIC_DNS_CLUSTER: &str = "AllowAnyDynamicDNSCluster";
/// Cluster that hands unmatched inbound traffic to the application.
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// Source address by which the proxy speaks to its own application: the capture rules leave it alone.
pub const INBOUND_PASSTHROUGH_BIND_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 6);
/// As [`INBOUND_PASSTHROUGH_BIND_V4`], for IPv6 (`::6`).
pub const INBOUND_PASSTHROUGH_BIND_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
/// Uid and gid of the proxy; the capture rules tell its traffic by it.
pub const PROXY_UID: u32 = 1337;
/// Default trust domain.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// Default namespace of the control plane and of mesh-wide configuration.
pub const ROOT_NAMESPACE: &str = "istio-system";
/// The reserved gateway name that stands for all sidecars.
pub const MESH_GATEWAY: &str = "mesh";

/// SDS name of a workload's own certificate.
pub const SDS_DEFAULT: &str = "default";
/// SDS name of the mesh's roots.
pub const SDS_ROOT_CA: &str = "ROOTCA";
/// Cluster in a bootstrap that stands for the agent's own secret service.
pub const SDS_GRPC_CLUSTER: &str = "sds-grpc";

/// Labels that Ferromesh reads.
pub mod label {
    /// Pod: `istio` when a sidecar answers mutual TLS.
    pub const TLS_MODE: &str = "security.istio.io/tlsMode";
    /// Namespace: `enabled` or `disabled`.
    pub const INJECTION: &str = "istio-injection";
    /// Pod: `true` or `false`.
    pub const INJECT: &str = "sidecar.istio.io/inject";
    /// Control-plane revision.
    pub const REVISION: &str = "istio.io/rev";
    /// Canonical service of a workload.
    pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
    /// Canonical revision of a workload.
    pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
    /// Locality of a pod, dots for slashes.
    pub const LOCALITY: &str = "istio-locality";
    /// Service that an EndpointSlice belongs to.
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
}

/// Annotations that Ferromesh reads.
pub mod annotation {
    /// As the label of this name.
    pub const INJECT: &str = "sidecar.istio.io/inject";
    /// ProxyConfig of one pod, YAML.
    pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
    /// `REDIRECT`, `TPROXY` or `NONE`.
    pub const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
    /// Visibility of a Service.
    pub const EXPORT_TO: &str = "networking.istio.io/exportTo";
    /// Ports that inbound capture takes.
    pub const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
    /// Ports that inbound capture leaves.
    pub const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
    /// Ports that outbound capture takes even outside the included ranges.
    pub const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
    /// Ports that outbound capture leaves.
    pub const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
    /// Ranges that outbound capture takes.
    pub const INCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
    /// Ranges that outbound capture leaves.
    pub const EXCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
}

/// `outbound|80|v1|catalog.shop.svc.cluster.local`.
pub fn outbound_cluster(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `inbound|8080||`.
pub fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// The SNI by which a sidecar asks for a service: `outbound_.80_.v1_.catalog.shop.svc.cluster.local`.
pub fn outbound_sni(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// Parts of a cluster name `direction|port|subset|host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName<'a> {
    /// `outbound` or `inbound`.
    pub direction: &'a str,
    /// Service port (outbound) or workload port (inbound).
    pub port: u16,
    /// Subset of a DestinationRule, or empty.
    pub subset: &'a str,
    /// Host of the service; empty for inbound.
    pub host: &'a str,
}

impl<'a> ClusterName<'a> {
    /// `None` for names of another form, such as [`PASSTHROUGH_CLUSTER`].
    pub fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.splitn(4, '|');
        let (direction, port, subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(ClusterName {
            direction,
            port: port.parse().ok()?,
            subset,
            host,
        })
    }
}

/// `catalog.shop.svc.cluster.local`.
pub fn service_fqdn(name: &str, namespace: &str, domain: &str) -> String {
    format!("{name}.{namespace}.svc.{domain}")
}

/// A workload's identity, `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    /// Trust domain, such as `cluster.local`.
    pub trust_domain: String,
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
}

impl SpiffeId {
    /// Parses the URI form; `None` when it is no identity of this shape.
    pub fn parse(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("spiffe://")?;
        let mut parts = rest.split('/');
        let (trust_domain, ns, namespace, sa, service_account) = (
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
        );
        let complete = ns == "ns" && sa == "sa" && parts.next().is_none();
        let filled = !trust_domain.is_empty() && !namespace.is_empty() && !service_account.is_empty();
        (complete && filled).then(|| SpiffeId {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

/// What a node id says: `sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeId {
    /// Sidecar or gateway.
    pub kind: NodeKind,
    /// Address of the pod.
    pub ip: std::net::IpAddr,
    /// Name of the pod.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// DNS domain, `NAMESPACE.svc.cluster.local`.
    pub domain: String,
}

/// Role of a proxy, the first part of a node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Beside an application.
    Sidecar,
    /// A gateway.
    Router,
}

/// Why a node id is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node id {id:?}: {reason}; expected KIND~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN with KIND sidecar or router")]
pub struct NodeIdError {
    id: String,
    reason: &'static str,
}

impl NodeId {
    /// Parses the four parts.
    ///
    /// # Errors
    /// When a part is missing, the kind is unknown or the address is none.
    pub fn parse(id: &str) -> Result<Self, NodeIdError> {
        let fail = |reason| NodeIdError {
            id: id.to_owned(),
            reason,
        };
        let parts: Vec<&str> = id.split('~').collect();
        let [kind, ip, pod, domain] = parts.as_slice() else {
            return Err(fail("it does not have four parts"));
        };
        let kind = match *kind {
            "sidecar" => NodeKind::Sidecar,
            "router" => NodeKind::Router,
            _ => return Err(fail("unknown kind")),
        };
        let ip = ip.parse().map_err(|_| fail("the second part is no IP address"))?;
        let (pod, namespace) = pod
            .rsplit_once('.')
            .ok_or_else(|| fail("the third part is not POD.NAMESPACE"))?;
        Ok(NodeId {
            kind,
            ip,
            pod: pod.to_owned(),
            namespace: namespace.to_owned(),
            domain: (*domain).to_owned(),
        })
    }

    /// `cluster.local` of `shop.svc.cluster.local`.
    pub fn cluster_domain(&self) -> &str {
        self.domain.split_once(".svc.").map_or(self.domain.as_str(), |(_, d)| d)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            NodeKind::Sidecar => "sidecar",
            NodeKind::Router => "router",
        };
        write!(f, "{kind}~{}~{}.{}~{}", self.ip, self.pod, self.namespace, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_go_both_ways() {
        let text = "sidecar~10.0.0.1~web-6f.v1.shop~shop.svc.cluster.local";
        let id = NodeId::parse(text).expect("well formed");
        assert_eq!(
            (id.pod.as_str(), id.namespace.as_str(), id.cluster_domain()),
            ("web-6f.v1", "shop", "cluster.local")
        );
        assert_eq!(id.to_string(), text);
        for bad in ["", "sidecar~x~a.b~c", "pod~10.0.0.1~a.b~c", "sidecar~10.0.0.1~a~c"] {
            assert!(NodeId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spiffe_ids_of_another_shape_are_no_identity() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/web").expect("well formed");
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
        for bad in [
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe://td/ns/a/sa/b/c",
            "https://td/ns/a/sa/b",
            "spiffe:///ns/a/sa/b",
        ] {
            assert!(SpiffeId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn cluster_names_have_four_parts() {
        let name = outbound_cluster(80, "v1", "catalog.shop.svc.cluster.local");
        let parsed = ClusterName::parse(&name).expect("our own form");
        assert_eq!((parsed.direction, parsed.port, parsed.subset), ("outbound", 80, "v1"));
        assert!(ClusterName::parse(PASSTHROUGH_CLUSTER).is_none());
    }
}
