//! Names of the mesh that the DNS proxy answers itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh_api::nds::NameTable;
use mesh_api::nds::name_table::NameInfo;

use crate::snapshot::Map;

/// Addresses of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Vec<Ipv4Addr>,
    pub(super) v6: Vec<Ipv6Addr>,
}

/// The name table of the control plane, ready for look-ups. Keys are lower case, without a trailing dot.
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: Map<String, Addresses>,
    /// `*.example.com` as `example.com`.
    wildcards: Map<String, Addresses>,
    /// First search domain of the pod, `shop.svc.cluster.local`.
    search: Option<String>,
}

/// What a name is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A name of the mesh.
    Name(&'a Addresses),
    /// A name of the mesh to which the caller's resolver put the pod's first search domain: it is this other name.
    Alias(String, &'a Addresses),
}

impl Names {
    /// Names that the table has, and those by which Kubernetes' DNS would know the same services. Services of the pod's
    /// own namespace (first label of the first search domain) have their bare name too.
    pub(super) fn new(table: &NameTable, search: &[String]) -> Self {
        let search = search.first().cloned();
        let own_namespace = search.as_deref().and_then(|s| s.split('.').next()).unwrap_or_default();
        let mut names = Names {
            search: search.clone(),
            ..Names::default()
        };
        for (host, info) in &table.table {
            let addresses = addresses(info);
            if addresses == Addresses::default() {
                // Nothing to answer with; the pod's nameserver may know more.
                continue;
            }
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            if let Some(parent) = host.strip_prefix("*.") {
                names.wildcards.insert(parent.to_owned(), addresses);
                continue;
            }
            if !info.shortname.is_empty() && !info.namespace.is_empty() {
                let (short, namespace) = (info.shortname.to_ascii_lowercase(), info.namespace.to_ascii_lowercase());
                let mut aliases = vec![format!("{short}.{namespace}"), format!("{short}.{namespace}.svc")];
                if namespace == own_namespace {
                    aliases.push(short);
                }
                for alias in aliases {
                    // A host that is in the table by that very name goes before an abbreviation.
                    if !table.table.contains_key(&alias) {
                        names.exact.insert(alias, addresses.clone());
                    }
                }
            }
            names.exact.insert(host, addresses);
        }
        names
    }

    /// Looks a name up (lower case, without trailing dot).
    pub(super) fn find(&self, name: &str) -> Option<Found<'_>> {
        if let Some(addresses) = self.exact.get(name) {
            return Some(Found::Name(addresses));
        }
        // Before wildcards: `api.example.com.shop.svc.cluster.local` is `api.example.com`, even with `*.local`.
        let bare = self
            .search
            .as_deref()
            .and_then(|search| name.strip_suffix(search)?.strip_suffix('.'));
        if let Some(bare) = bare
            && let Some(addresses) = self.exact.get(bare).or_else(|| self.wildcard(bare))
        {
            return Some(Found::Alias(bare.to_owned(), addresses));
        }
        self.wildcard(name).map(Found::Name)
    }

    /// The longest wildcard above a name.
    fn wildcard(&self, name: &str) -> Option<&Addresses> {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(addresses) = self.wildcards.get(parent) {
                return Some(addresses);
            }
            rest = parent;
        }
        None
    }
}

fn addresses(info: &NameInfo) -> Addresses {
    let mut all = Addresses::default();
    for ip in info.ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
        match ip {
            IpAddr::V4(ip) => all.v4.push(ip),
            IpAddr::V6(ip) => all.v6.push(ip),
        }
    }
    all
}

#[cfg(test)]
pub(super) fn table(entries: &[(&str, &str, &str, &str)]) -> NameTable {
    let info = |(host, ips, shortname, namespace): &(&str, &str, &str, &str)| {
        let info = NameInfo {
            ips: ips.split_whitespace().map(str::to_owned).collect(),
            shortname: (*shortname).to_owned(),
            namespace: (*namespace).to_owned(),
            ..NameInfo::default()
        };
        ((*host).to_owned(), info)
    };
    NameTable {
        table: entries.iter().map(info).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_every_name_that_kubernetes_gives_them() {
        let table = table(&[
            ("catalog.shop.svc.cluster.local", "10.0.0.1", "catalog", "shop"),
            ("web.front.svc.cluster.local", "10.0.0.2", "web", "front"),
            ("api.example.com", "240.240.0.1", "", ""),
            ("*.wild.example.com", "240.240.0.2", "", ""),
            ("*.a.wild.example.com", "240.240.0.3", "", ""),
            ("empty.example.com", "", "", ""),
        ]);
        let search = ["shop.svc.cluster.local", "svc.cluster.local"].map(str::to_owned);
        let names = Names::new(&table, &search);
        let cases = [
            ("catalog.shop.svc.cluster.local", "10.0.0.1 -"),
            ("catalog.shop.svc", "10.0.0.1 -"),
            ("catalog", "10.0.0.1 -"),
            ("web.front", "10.0.0.2 -"),
            ("web", "none"),
            ("web.front.shop.svc.cluster.local", "10.0.0.2 web.front"),
            ("api.example.com.shop.svc.cluster.local", "240.240.0.1 api.example.com"),
            ("api.example.com.svc.cluster.local", "none"),
            ("x.wild.example.com", "240.240.0.2 -"),
            ("y.x.wild.example.com", "240.240.0.2 -"),
            ("x.a.wild.example.com", "240.240.0.3 -"),
            ("wild.example.com", "none"),
            ("empty.example.com", "none"),
            ("other.example", "none"),
        ];
        for (name, expected) in cases {
            let found = match names.find(name) {
                None => "none".to_owned(),
                Some(Found::Name(a)) => format!("{} -", a.v4[0]),
                Some(Found::Alias(to, a)) => format!("{} {to}", a.v4[0]),
            };
            assert_eq!(found, expected, "{name}");
        }
    }
}
