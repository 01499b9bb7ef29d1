//! Who has an address and port that several services say: no service can take what another has already.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::service::Service;

/// Addresses and ports that several hosts say, each with their services, the first of which has it.
#[derive(Debug, Clone, Default)]
pub struct Claims(HashMap<(IpNet, u16), Vec<Arc<Service>>>);

/// Which of two services comes first where both want one thing: Kubernetes Services, whose addresses are given out by the
/// cluster, before ServiceEntries, where anybody may write any; then the older one, then by name.
pub fn precedence(a: &Service, b: &Service) -> Ordering {
    let key = |s: &Service| (!s.kubernetes, s.created);
    let by_name = || (&a.host, &a.namespace).cmp(&(&b.host, &b.namespace));
    key(a).cmp(&key(b)).then_with(by_name)
}

impl Claims {
    pub(super) fn build(services: &BTreeMap<String, Vec<Arc<Service>>>) -> Self {
        let mut found: HashMap<(IpNet, u16), Vec<Arc<Service>>> = HashMap::new();
        for service in services.values().flatten() {
            // Every address under which any caller may reach it.
            let v4 = service.addresses(true, false).into_iter();
            let addresses: BTreeSet<IpNet> = v4.chain(service.addresses(true, true)).map(|a| a.trunc()).collect();
            for address in addresses {
                for port in &service.ports {
                    let claims = found.entry((address, port.number)).or_default();
                    claims.push(service.clone());
                }
            }
        }
        found.retain(|_, list| list.iter().any(|s| s.host != list[0].host));
        for list in found.values_mut() {
            list.sort_by(|a, b| precedence(a, b));
        }
        Claims(found)
    }

    /// The first of those that say an address and port and count for the caller; `None` where only one host says it. A
    /// Kubernetes Service has its address whether the caller sees it or not.
    pub fn owner(&self, address: IpNet, port: u16, counts: impl Fn(&Arc<Service>) -> bool) -> Option<&Arc<Service>> {
        let list = self.0.get(&(address.trunc(), port))?;
        list.iter().find(|s| s.kubernetes || counts(s))
    }

    /// All of them, in the order of addresses and ports.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, u16, &[Arc<Service>])> {
        let mut all: Vec<_> = self.0.iter().map(|((a, port), list)| (*a, *port, &**list)).collect();
        all.sort_by_key(|(address, port, _)| (*address, *port));
        all.into_iter()
    }
}

/// Field and message for the author of a service whose address another one has.
pub fn refusal(service: &Service, address: IpNet, port: u16, owner: &Service) -> (&'static str, String) {
    let field = if service.kubernetes {
        "spec.clusterIP"
    } else {
        "spec.addresses"
    };
    let message = format!(
        "{} port {port} belongs to {}, which comes first (Kubernetes Services do, then what is older); connections to it do not reach {}. Use another address",
        if address.prefix_len() == address.max_prefix_len() {
            address.addr().to_string()
        } else {
            address.to_string()
        },
        owner.object,
        service.host,
    );
    (field, message)
}
