//! Which names a cluster has, by Kubernetes' rules for DNS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Data {
    /// A or AAAA, by its family
    Address(IpAddr),
    /// Port, and the name that has the addresses
    Server(u16, String),
    /// CNAME: the whole answer for a Service of type ExternalName
    Alias(String),
    /// PTR
    Pointer(String),
    /// TXT
    Text(String),
}

/// All names of a cluster: lower case, without the last dot.
#[derive(Debug, Default)]
pub(super) struct Names {
    zone: String,
    records: BTreeMap<String, BTreeSet<Data>>,
}

/// What was found for a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The name exists, with this data, which may be none of what was asked for.
    Data(BTreeSet<Data>),
    /// The name is not there.
    Nothing,
}

impl Names {
    /// Names of these Services and of the endpoints of the headless ones.
    pub(super) fn new<'a>(
        zone: &str,
        services: impl IntoIterator<Item = &'a Service>,
        endpoints: impl IntoIterator<Item = &'a Endpoints>,
    ) -> Names {
        let mut names = Names {
            zone: zone.to_owned(),
            records: BTreeMap::new(),
        };
        names.add(&format!("dns-version.{zone}"), Data::Text("1.1.0".to_owned()));
        let endpoints: BTreeMap<_, _> = endpoints
            .into_iter()
            .map(|e| ((e.metadata.namespace.as_deref(), e.metadata.name.as_deref()), e))
            .collect();
        for service in services {
            let key = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
            names.service(service, endpoints.get(&key).copied());
        }
        names
    }

    fn add(&mut self, name: &str, data: Data) {
        self.records.entry(name.to_ascii_lowercase()).or_default().insert(data);
    }

    fn service(&mut self, service: &Service, endpoints: Option<&Endpoints>) {
        let (Some(namespace), Some(name), Some(spec)) =
            (&service.metadata.namespace, &service.metadata.name, &service.spec)
        else {
            return;
        };
        let own = format!("{name}.{namespace}.svc.{}", self.zone);
        if spec.type_.as_deref() == Some("ExternalName") {
            if let Some(target) = &spec.external_name {
                self.add(&own, Data::Alias(target.trim_end_matches('.').to_ascii_lowercase()));
            }
            return;
        }
        let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let addresses: BTreeSet<IpAddr> = all.filter_map(|ip| ip.parse().ok()).collect();
        if addresses.is_empty() {
            if let Some(endpoints) = endpoints {
                self.headless(&own, endpoints);
            }
            return;
        }
        for ip in addresses {
            self.add(&own, Data::Address(ip));
            self.add(&reverse(ip), Data::Pointer(own.clone()));
        }
        for port in spec.ports.iter().flatten() {
            self.server(&own, port.name.as_deref(), port.protocol.as_deref(), port.port, &own);
        }
    }

    fn headless(&mut self, own: &str, endpoints: &Endpoints) {
        for subset in endpoints.subsets.iter().flatten() {
            for address in subset.addresses.iter().flatten() {
                let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
                let host = format!("{}.{own}", host(address, ip));
                self.add(own, Data::Address(ip));
                self.add(&host, Data::Address(ip));
                self.add(&reverse(ip), Data::Pointer(host.clone()));
                for port in subset.ports.iter().flatten() {
                    self.server(own, port.name.as_deref(), port.protocol.as_deref(), port.port, &host);
                }
            }
        }
    }

    fn server(&mut self, own: &str, name: Option<&str>, protocol: Option<&str>, port: i32, target: &str) {
        let (Some(name), Ok(port)) = (name.filter(|n| !n.is_empty()), u16::try_from(port)) else {
            return;
        };
        let protocol = protocol.unwrap_or("TCP");
        self.add(
            &format!("_{name}._{protocol}.{own}"),
            Data::Server(port, target.to_owned()),
        );
    }

    /// The zone that this server speaks for.
    pub(super) fn zone(&self) -> &str {
        &self.zone
    }

    /// Looks a name up (lower case, no last dot).
    pub(super) fn find(&self, name: &str) -> Found {
        if let Some(data) = self.records.get(name) {
            return Found::Data(data.clone());
        }
        if let Some(ip) = self.pod(name) {
            return Found::Data(BTreeSet::from([Data::Address(ip)]));
        }
        // A name that others end with exists, though nothing is known of it.
        let below = format!(".{name}");
        if name == self.zone || self.records.keys().any(|known| known.ends_with(&below)) {
            return Found::Data(BTreeSet::new());
        }
        Found::Nothing
    }

    /// `10-244-0-7.NAMESPACE.pod.ZONE` is the address that it spells.
    fn pod(&self, name: &str) -> Option<IpAddr> {
        let (pod, namespace) = name.strip_suffix(&format!(".pod.{}", self.zone))?.split_once('.')?;
        let ip: Ipv4Addr = pod.replace('-', ".").parse().ok()?;
        (!namespace.contains('.')).then_some(ip.into())
    }
}

/// The name of an endpoint: its host name as a StatefulSet's pods have it, else its address.
fn host(address: &EndpointAddress, ip: IpAddr) -> String {
    match &address.hostname {
        Some(hostname) if !hostname.is_empty() => hostname.clone(),
        _ => ip.to_string().replace(['.', ':'], "-"),
    }
}

fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits: Vec<_> = v6
                .octets()
                .iter()
                .flat_map(|o| [o >> 4, o & 15])
                .map(|d| format!("{d:x}"))
                .rev()
                .collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

#[cfg(test)]
#[path = "names/tests.rs"]
pub(super) mod tests;
