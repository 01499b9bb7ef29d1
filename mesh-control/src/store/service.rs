//! Services: Kubernetes' and those of ServiceEntries, in one form.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use jiff::Timestamp;
use mesh_api::istio::{self, Object, ServiceEntry};
use mesh_api::k8s::{self, IntOrString};
use mesh_api::names::{annotation, service_fqdn};

use super::claim::precedence;
use super::host::CLUSTER_DOMAIN;
use super::protocol::Protocol;

/// A service that proxies route to.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Full host name, or a wildcard (ServiceEntry).
    pub host: String,
    /// Name of the object (Kubernetes), or the host (ServiceEntry).
    pub name: String,
    /// Namespace of the object.
    pub namespace: String,
    /// The object, for messages: `Service shop/catalog`. Of several ServiceEntries for a host the oldest.
    pub object: String,
    /// Ports, in the order of the object; UDP ports are left out.
    pub ports: Vec<ServicePort>,
    /// Virtual addresses and ranges.
    pub vips: Vec<IpNet>,
    /// Address given out here, for a service that says none.
    pub auto_vip: Option<Ipv4Addr>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Registered by a Kubernetes Service.
    pub kubernetes: bool,
    /// Outside of the mesh: no mutual TLS.
    pub external: bool,
    /// `exportTo`.
    pub export_to: Vec<String>,
    /// Labels of the Pods behind it; empty for none.
    pub selector: BTreeMap<String, String>,
    /// Names that the servers' certificates may have, besides the endpoints' identities.
    pub subject_alt_names: Vec<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Not-ready endpoints take traffic too.
    pub publish_not_ready: bool,
    /// Target of an ExternalName service.
    pub external_name: Option<String>,
}

/// How the endpoints of a service are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Sent by EDS.
    Eds,
    /// By DNS, all answers.
    StrictDns,
    /// By DNS, the first answer for each connection.
    LogicalDns,
    /// The address that the client asked for.
    Passthrough,
    /// By DNS, of the name that each request is for.
    DynamicDns,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Number that clients use.
    pub number: u16,
    /// Name, may be empty.
    pub name: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// Port of the workload.
    pub target: TargetPort,
}

/// Port of the workload behind a service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(String),
}

impl Service {
    /// Reads a Kubernetes Service.
    pub fn of_kubernetes(service: &k8s::Service) -> Self {
        let meta = &service.metadata;
        let spec = service.spec.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();
        let namespace = meta.namespace.clone().unwrap_or_default();
        let external_name = (spec.type_.as_deref() == Some("ExternalName"))
            .then(|| spec.external_name.clone())
            .flatten();
        let addresses: Vec<String> = match &spec.cluster_ips {
            Some(ips) if !ips.is_empty() => ips.clone(),
            _ => spec
                .cluster_ip
                .clone()
                .into_iter()
                .filter(|ip| !ip.is_empty())
                .collect(),
        };
        let headless = addresses.iter().any(|a| a == "None");
        let ports = spec.ports.iter().flatten().filter_map(kubernetes_port).collect();
        Service {
            host: service_fqdn(&name, &namespace, CLUSTER_DOMAIN),
            ports,
            vips: addresses.iter().filter_map(|a| net(a)).collect(),
            auto_vip: None,
            resolution: match (&external_name, headless) {
                (Some(_), _) => Resolution::StrictDns,
                (None, true) => Resolution::Passthrough,
                (None, false) => Resolution::Eds,
            },
            headless,
            kubernetes: true,
            external: external_name.is_some(),
            export_to: meta
                .annotations
                .as_ref()
                .and_then(|a| a.get(annotation::EXPORT_TO))
                .map(|list| list.split(',').map(|e| e.trim().to_owned()).collect())
                .unwrap_or_default(),
            selector: spec.selector.unwrap_or_default(),
            subject_alt_names: Vec::new(),
            created: meta.creation_timestamp.as_ref().map(|t| t.0),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
            external_name,
            object: format!("Service {namespace}/{name}"),
            name,
            namespace,
        }
    }

    /// Reads a ServiceEntry: one service for each host.
    pub fn of_entry(entry: &Object<ServiceEntry>) -> Vec<Self> {
        let spec = &entry.spec;
        let ports: Vec<ServicePort> = spec
            .ports
            .iter()
            .filter_map(|p| {
                let number = u16::try_from(p.number).ok()?;
                let target = u16::try_from(p.target_port).ok().filter(|t| *t != 0).unwrap_or(number);
                Some(ServicePort {
                    number,
                    name: p.name.clone(),
                    protocol: if p.protocol.is_empty() {
                        Protocol::of_kubernetes(None, None, &p.name, number)
                    } else {
                        Protocol::parse(&p.protocol).unwrap_or(Protocol::Auto)
                    },
                    target: TargetPort::Number(target),
                })
            })
            .filter(|p| p.protocol != Protocol::Udp)
            .collect();
        let resolution = match spec.resolution {
            istio::Resolution::None => Resolution::Passthrough,
            istio::Resolution::DynamicDns => Resolution::DynamicDns,
            istio::Resolution::Static => Resolution::Eds,
            istio::Resolution::Dns => Resolution::StrictDns,
            istio::Resolution::DnsRoundRobin => Resolution::LogicalDns,
        };
        spec.hosts
            .iter()
            .map(|host| Service {
                host: host.clone(),
                name: host.clone(),
                namespace: entry.meta.namespace.clone(),
                object: format!("ServiceEntry {}/{}", entry.meta.namespace, entry.meta.name),
                ports: ports.clone(),
                vips: spec.addresses.iter().filter_map(|a| net(a)).collect(),
                auto_vip: None,
                resolution,
                headless: false,
                kubernetes: false,
                external: spec.location == istio::Location::MeshExternal,
                export_to: spec.export_to.clone(),
                selector: spec
                    .workload_selector
                    .as_ref()
                    .map(|s| s.labels.clone())
                    .unwrap_or_default(),
                subject_alt_names: spec.subject_alt_names.clone(),
                created: entry.meta.creation_timestamp,
                publish_not_ready: false,
                external_name: None,
            })
            .collect()
    }

    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.number == number)
    }

    /// Whether an endpoint may have this address: names are resolved by the proxy for DNS services only.
    pub fn takes(&self, address: &str) -> bool {
        let by_name = matches!(self.resolution, Resolution::StrictDns | Resolution::LogicalDns);
        (by_name && !address.is_empty() && !address.starts_with("unix://")) || address.parse::<IpAddr>().is_ok()
    }

    /// Addresses by which clients reach it: its own, else (where the caller's DNS gives it out) the one made here.
    /// Kubernetes Services always have one, so theirs does not depend on the caller. A caller with IPv6 alone (`ipv6`) is
    /// given one that it can route.
    pub fn addresses(&self, dns_capture: bool, ipv6: bool) -> Vec<IpNet> {
        if !self.vips.is_empty() {
            return self.vips.clone();
        }
        match self.auto_vip {
            Some(v4) if self.kubernetes || dns_capture => {
                let [_, _, high, low] = v4.octets();
                let v6 = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0xf0f0, u16::from_be_bytes([high, low]));
                vec![IpNet::from(if ipv6 { IpAddr::V6(v6) } else { IpAddr::V4(v4) })]
            }
            _ => Vec::new(),
        }
    }

    /// Whether it wants an address from [`allocate`].
    fn wants_address(&self) -> bool {
        self.vips.is_empty()
            && !self.host.starts_with('*')
            && if self.kubernetes {
                !self.headless && self.external_name.is_none()
            } else {
                self.resolution != Resolution::Passthrough
            }
    }
}

/// Gives addresses of 240.240.0.0/16 to services that say none. The hash of the host decides, so that a host keeps its
/// address when others come and go; of two that hash alike the one that comes first keeps it, so that a new one never moves
/// another's.
pub fn allocate<'a>(services: impl IntoIterator<Item = &'a mut Service>) {
    let mut wanting: Vec<&mut Service> = services.into_iter().filter(|s| s.wants_address()).collect();
    wanting.sort_by(|a, b| precedence(a, b));
    let mut taken: BTreeMap<u16, String> = BTreeMap::new();
    for service in wanting {
        let mut slot = slot(&service.host);
        // Bounded by the number of slots; a mesh with more hosts than that leaves the rest without.
        for _ in 0..u16::MAX {
            if slot == 0 || slot == u16::MAX || taken.get(&slot).is_some_and(|host| *host != service.host) {
                slot = slot.wrapping_add(1);
                continue;
            }
            taken.insert(slot, service.host.clone());
            let [high, low] = slot.to_be_bytes();
            service.auto_vip = Some(Ipv4Addr::new(240, 240, high, low));
            break;
        }
    }
}

/// FNV-1a, folded to 16 bits: stable across versions and machines.
fn slot(host: &str) -> u16 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in host.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    let folded = (hash >> 16) ^ (hash & 0xffff);
    u16::try_from(folded).unwrap_or_default()
}

fn kubernetes_port(port: &k8s::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(port.port).ok()?;
    let name = port.name.clone().unwrap_or_default();
    let protocol = Protocol::of_kubernetes(port.protocol.as_deref(), port.app_protocol.as_deref(), &name, number);
    if protocol == Protocol::Udp || port.protocol.as_deref() == Some("SCTP") {
        return None;
    }
    let target = match &port.target_port {
        Some(IntOrString::Int(n)) => TargetPort::Number(u16::try_from(*n).ok()?),
        Some(IntOrString::String(name)) => match name.parse() {
            Ok(n) => TargetPort::Number(n),
            Err(_) => TargetPort::Name(name.clone()),
        },
        None => TargetPort::Number(number),
    };
    Some(ServicePort {
        number,
        name,
        protocol,
        target,
    })
}

/// An address or a range.
fn net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
