//! Services without Kubernetes: addresses, names and the rules that lead from one to pods. Pure functions.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;
use std::net::{IpAddr, SocketAddr};

use mesh_api::k8s::{IntOrString, Service, ServicePort as Port};

use super::dns::Table;
use super::plan::PodPlan;
use crate::netns::services::ServicePort;

/// Last byte of the first address for Services; those below are for the name server and the like.
const FIRST: u8 = 20;
const LAST: u8 = 250;

/// A pod that may stand behind a Service.
#[derive(Debug, Clone, Copy)]
pub struct Backend<'a> {
    /// What it is.
    pub plan: &'a PodPlan,
    /// Its address.
    pub ip: IpAddr,
    /// Whether it takes traffic.
    pub ready: bool,
}

/// An address for a Service that depends on its name, as long as no other has it.
pub fn address(
    namespace: &str,
    name: &str,
    taken: &BTreeSet<IpAddr>,
    of_host: impl Fn(u8) -> IpAddr,
) -> Option<IpAddr> {
    let count = u64::from(LAST - FIRST) + 1;
    let start = foldhash::quality::FixedState::default().hash_one((namespace, name)) % count;
    (0..count)
        .filter_map(|step| u8::try_from(u64::from(FIRST) + (start + step) % count).ok())
        .map(of_host)
        .find(|ip| !taken.contains(ip))
}

/// ClusterIP of a Service; `None` for headless and external ones.
pub fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

fn selects(service: &Service, pod: &PodPlan) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let same_namespace = service.metadata.namespace.as_deref() == Some(pod.namespace.as_str());
    let matches = selector.is_some_and(|labels| {
        !labels.is_empty()
            && labels
                .iter()
                .all(|(name, value)| pod.meta.labels.get(name) == Some(value))
    });
    same_namespace && matches
}

fn target_port(port: &Port, pod: &PodPlan) -> Option<u16> {
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let ports = pod
                .spec
                .containers
                .iter()
                .flat_map(|container| container.ports.iter().flatten());
            ports
                .filter(|p| p.name.as_deref() == Some(name))
                .map(|p| p.container_port)
                .next()?
        }
    };
    u16::try_from(number).ok()
}

/// What the bridge's namespace needs to lead ClusterIPs to pods.
pub fn rules(services: &[Service], pods: &[Backend<'_>]) -> Vec<ServicePort> {
    let mut rules = Vec::new();
    for service in services {
        let (Some(ip), Some(spec)) = (cluster_ip(service), &service.spec) else {
            continue;
        };
        for port in spec.ports.iter().flatten() {
            let Ok(number) = u16::try_from(port.port) else {
                continue;
            };
            let behind = pods.iter().filter(|pod| pod.ready && selects(service, pod.plan));
            rules.push(ServicePort {
                ip,
                port: number,
                protocol: if port.protocol.as_deref() == Some("UDP") {
                    "udp"
                } else {
                    "tcp"
                },
                endpoints: behind
                    .filter_map(|pod| Some(SocketAddr::new(pod.ip, target_port(port, pod.plan)?)))
                    .collect(),
            });
        }
    }
    rules
}

/// Names of all Services, in full: `NAME.NAMESPACE.svc.cluster.local`. Programs find the short forms by their search list.
pub fn names(services: &[Service], pods: &[Backend<'_>]) -> Table {
    let mut table = BTreeMap::new();
    for service in services {
        let (Some(name), Some(namespace)) = (&service.metadata.name, &service.metadata.namespace) else {
            continue;
        };
        let addresses = match cluster_ip(service) {
            Some(ip) => vec![ip],
            None => {
                let behind = pods.iter().filter(|pod| pod.ready && selects(service, pod.plan));
                behind.map(|pod| pod.ip).collect()
            }
        };
        table.insert(format!("{name}.{namespace}.svc.cluster.local"), addresses);
    }
    table
}

/// The resolv.conf of a pod.
pub fn resolv_conf(server: IpAddr, namespace: &str) -> String {
    format!(
        "nameserver {server}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:2\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::runner::plan;

    fn service(spec: &serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}))
            .expect("a Service")
    }

    fn pod(labels: &serde_json::Value) -> PodPlan {
        let meta = serde_json::from_value(json!({ "labels": labels })).expect("metadata");
        let spec = json!({"containers": [{"name": "a", "image": "httpbin", "ports": [{"name": "http", "containerPort": 8080}]}]});
        let spec = serde_json::from_value(spec).expect("a spec");
        let owner = plan::Owner {
            resource: "pods",
            name: "web",
            namespace: "shop",
        };
        plan::pod(owner, "web", &meta, &spec, &BTreeMap::new()).expect("a plan")
    }

    #[test]
    fn addresses_depend_on_names_and_never_clash() {
        let of_host = |host| IpAddr::from([10, 96, 7, host]);
        let mut taken = BTreeSet::new();
        let first = address("shop", "web", &taken, of_host).expect("free");
        assert_eq!(address("shop", "web", &taken, of_host), Some(first));
        taken.insert(first);
        assert_ne!(address("shop", "web", &taken, of_host), Some(first));
        taken.extend((FIRST..=LAST).map(of_host));
        assert_eq!(address("shop", "web", &taken, of_host), None);
    }

    #[test]
    fn ready_pods_with_the_labels_stand_behind_a_service() {
        let (web, other) = (
            pod(&json!({"app": "web", "version": "v1"})),
            pod(&json!({"app": "other"})),
        );
        let ip = |host| IpAddr::from([10, 244, 7, host]);
        let backends = [
            Backend {
                plan: &web,
                ip: ip(2),
                ready: true,
            },
            Backend {
                plan: &web,
                ip: ip(3),
                ready: false,
            },
            Backend {
                plan: &other,
                ip: ip(4),
                ready: true,
            },
        ];
        let ports = json!([{"port": 80, "targetPort": "http"}, {"port": 9000}]);
        let by_ip = service(&json!({"clusterIP": "10.96.7.30", "selector": {"app": "web"}, "ports": ports}));
        let rules = rules(std::slice::from_ref(&by_ip), &backends);
        let shown: Vec<_> = rules.iter().map(|rule| (rule.port, rule.endpoints.clone())).collect();
        assert_eq!(
            shown,
            [
                (80, vec![SocketAddr::new(ip(2), 8080)]),
                (9000, vec![SocketAddr::new(ip(2), 9000)])
            ]
        );
        let headless = service(&json!({"clusterIP": "None", "selector": {"app": "web"}}));
        let all = names(&[headless], &backends);
        assert_eq!(all["web.shop.svc.cluster.local"], [ip(2)]);
        assert_eq!(
            names(&[by_ip], &backends)["web.shop.svc.cluster.local"],
            [IpAddr::from([10, 96, 7, 30])]
        );
    }
}
