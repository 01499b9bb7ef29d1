//! The text, in istioctl's words.

use std::collections::BTreeSet;

use crate::cluster::PROXY;
use crate::cluster::target::has_proxy;
use anyhow::{Result, bail};
use mesh_api::istio::{AnyObject, Object, PeerAuthentication};
use mesh_api::k8s::Pod;
use mesh_api::names::{self, label};
use mesh_control::store::host::{self, CLUSTER_DOMAIN};
use mesh_control::store::routing::Routing;
use mesh_control::store::rules::TrafficRule;
use mesh_control::store::service::{Service, ServicePort, TargetPort};
use mesh_control::store::workload::{Workload, selects};
use mesh_control::store::{Store, endpoint};

const LINE: &str = "--------------------\n";

/// What the mesh makes of a pod.
pub(super) fn pod(store: &Store, namespace: &str, name: &str) -> Result<String> {
    let Some((workload, object)) = store.pod(namespace, name).zip(pod_object(store, namespace, name)) else {
        bail!("there is no pod {name} in namespace {namespace}; is -n right?");
    };
    let mut out = format!("Pod: {name}.{namespace}\n");
    let revision = workload.labels.get(label::REVISION).map_or("default", String::as_str);
    out.push_str(&format!("   Pod Revision: {revision}\n"));
    out.push_str(&format!("   Pod Ports: {}\n", ports(object)));
    // Without Kubernetes the proxy is no container; the label that every injected pod has is there all the same.
    if !has_proxy(object) && !workload.mesh_tls {
        out.push_str(&format!(
            "WARNING: {name}.{namespace} is not part of the mesh; it has no {PROXY}\n"
        ));
    }
    let addresses: BTreeSet<String> = workload.addresses.iter().cloned().collect();
    let services: Vec<_> = store.services_of(namespace, &workload.labels, &addresses).collect();
    if services.is_empty() {
        out.push_str(LINE);
        out.push_str("No service has this pod, so no rule for a host is about it\n");
    }
    for service in &services {
        out.push_str(LINE);
        of_service(store, service, Some(workload), &mut out);
    }
    out.push_str(LINE);
    authentication(store, workload, &mut out);
    exposed(store, &services, &mut out);
    Ok(out)
}

/// What the mesh makes of a service.
pub(super) fn service(store: &Store, namespace: &str, name: &str) -> Result<String> {
    let full = names::service_fqdn(name, namespace, CLUSTER_DOMAIN);
    let service = store
        .service(&full, namespace)
        .or_else(|| store.service(&format!("{name}.{namespace}"), namespace));
    let Some(service) = service else {
        bail!("there is no service {name} in namespace {namespace}; is -n right?");
    };
    let mut out = String::new();
    of_service(store, service, None, &mut out);
    exposed(store, &[service], &mut out);
    Ok(out)
}

fn pod_object<'a>(store: &'a Store, namespace: &str, name: &str) -> Option<&'a Pod> {
    store.objects().iter().find_map(|o| match o.as_ref() {
        AnyObject::Pod(pod) if o.namespace() == namespace && o.name() == name => Some(&pod.object),
        _ => None,
    })
}

/// `8080 (web), 15090 (istio-proxy)`.
fn ports(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let all: Vec<String> = containers
        .flat_map(|c| {
            let ports = c.ports.iter().flatten();
            ports.map(move |p| {
                let protocol = p.protocol.as_deref().filter(|p| *p != "TCP");
                let protocol = protocol.map(|p| format!("/{p}")).unwrap_or_default();
                format!("{}{protocol} ({})", p.container_port, c.name)
            })
        })
        .collect();
    if all.is_empty() {
        "none are named".to_owned()
    } else {
        all.join(", ")
    }
}

fn of_service(store: &Store, service: &Service, workload: Option<&Workload>, out: &mut String) {
    out.push_str(&format!("Service: {}\n", short(service)));
    for port in &service.ports {
        let target = match (workload, &port.target) {
            (Some(workload), _) => endpoint::target_port(port, workload).map(|p| p.to_string()),
            (None, TargetPort::Number(number)) => Some(number.to_string()),
            (None, TargetPort::Name(name)) => Some(name.clone()),
        };
        let target = target.unwrap_or_else(|| "nothing: the pod has no port of that name; requests get 503".to_owned());
        out.push_str(&format!("   Port: {} targets pod port {target}\n", port_name(port)));
    }
    let nobody = std::collections::BTreeMap::new();
    // As a client of the same namespace sees it.
    if let Some(rule) = store.rule(service, &service.namespace, &nobody) {
        destination_rule(rule, workload, out);
    }
    for routing in store.routings_of(&service.host, &service.namespace) {
        virtual_service(routing, out);
    }
}

fn short(service: &Service) -> String {
    if service.kubernetes {
        format!("{}.{}", service.name, service.namespace)
    } else {
        service.host.clone()
    }
}

/// `http 80/HTTP`.
fn port_name(port: &ServicePort) -> String {
    let protocol = if port.protocol.is_auto() {
        "auto-detect".to_owned()
    } else {
        format!("{:?}", port.protocol).to_uppercase()
    };
    format!("{} {}/{protocol}", port.name, port.number)
        .trim_start()
        .to_owned()
}

fn destination_rule(rule: &TrafficRule, workload: Option<&Workload>, out: &mut String) {
    out.push_str(&format!(
        "DestinationRule: {}.{} for \"{}\"\n",
        rule.meta.name, rule.meta.namespace, rule.host
    ));
    let (mut matching, mut others) = (Vec::new(), Vec::new());
    for subset in &rule.subsets {
        match workload {
            Some(workload) if !selects(&subset.labels, &workload.labels) => others.push(subset.name.as_str()),
            _ => matching.push(subset.name.as_str()),
        }
    }
    match (workload, rule.subsets.is_empty()) {
        (_, true) => {}
        (None, false) => out.push_str(&format!("   Subsets: {}\n", matching.join(","))),
        (Some(_), false) if matching.is_empty() => {
            out.push_str(&format!(
                "   WARNING: no subset has this pod; there are {}\n",
                others.join(",")
            ));
        }
        (Some(_), false) => {
            out.push_str(&format!("   Matching subsets: {}\n", matching.join(",")));
            if !others.is_empty() {
                out.push_str(&format!("      (Non-matching subsets {})\n", others.join(",")));
            }
        }
    }
    let Some(policy) = &rule.policy else {
        out.push_str("   No Traffic Policy\n");
        return;
    };
    let parts = [
        ("TLS", policy.tls.is_some()),
        ("load balancer", policy.load_balancer.is_some()),
        ("connection pool", policy.connection_pool.is_some()),
        ("outlier detection", policy.outlier_detection.is_some()),
        ("settings of ports", !policy.port_level_settings.is_empty()),
    ];
    let set: Vec<&str> = parts.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    out.push_str(&format!("   Traffic Policy: {}\n", set.join(", ")));
}

fn virtual_service(routing: &Routing, out: &mut String) {
    let meta = &routing.object.meta;
    out.push_str(&format!("VirtualService: {}.{}\n", meta.name, meta.namespace));
    let spec = &routing.object.spec;
    for (count, word) in [
        (routing.http.len(), "HTTP"),
        (spec.tls.len(), "TLS"),
        (spec.tcp.len(), "TCP"),
    ] {
        if count > 0 {
            out.push_str(&format!("   {count} {word} route(s)\n"));
        }
    }
}

fn authentication(store: &Store, workload: &Workload, out: &mut String) {
    let mtls = store.mtls(&workload.namespace, &workload.labels);
    out.push_str("Effective PeerAuthentication:\n");
    out.push_str(&format!("   Workload mTLS mode: {}\n", mtls.mode));
    for (port, of_port) in &mtls.ports {
        out.push_str(&format!("   Port {port} mTLS mode: {of_port}\n"));
    }
    let root = &store.mesh().root_namespace;
    let applied = |object: &&Object<PeerAuthentication>| {
        let labels = object.spec.selector.as_ref().map(|s| &s.match_labels);
        let labels = labels.filter(|l| !l.is_empty());
        let here = object.meta.namespace == workload.namespace;
        match labels {
            Some(labels) => here && selects(labels, &workload.labels),
            None => here || object.meta.namespace == *root,
        }
    };
    let objects = store.objects().iter().filter_map(|o| match o.as_ref() {
        AnyObject::PeerAuthentication(object) => Some(object),
        _ => None,
    });
    let names: Vec<String> = objects
        .filter(applied)
        .map(|o| format!("{}.{}", o.meta.name, o.meta.namespace))
        .collect();
    if !names.is_empty() {
        out.push_str(&format!("Applied PeerAuthentication:\n   {}\n", names.join(", ")));
    }
}

/// VirtualServices of gateways that lead to one of these services.
fn exposed(store: &Store, services: &[&std::sync::Arc<Service>], out: &mut String) {
    let gateways = store.objects().iter().filter_map(|o| match o.as_ref() {
        AnyObject::Gateway(gateway) => Some(format!("{}/{}", gateway.meta.namespace, gateway.meta.name)),
        _ => None,
    });
    for gateway in gateways {
        let namespaces: BTreeSet<&str> = services.iter().map(|s| s.namespace.as_str()).collect();
        let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
        for namespace in namespaces {
            for routing in store.routings_at(&gateway, namespace) {
                let meta = &routing.object.meta;
                let leads = leads_to(routing, services);
                if leads && seen.insert((meta.namespace.clone(), meta.name.clone())) {
                    out.push_str(LINE);
                    let hosts = routing.hosts.join(", ");
                    out.push_str(&format!("Exposed on Gateway {gateway} for {hosts}\n"));
                    virtual_service(routing, out);
                }
            }
        }
    }
}

fn leads_to(routing: &Routing, services: &[&std::sync::Arc<Service>]) -> bool {
    let namespace = &routing.object.meta.namespace;
    let spec = &routing.object.spec;
    let http = routing.http.iter().flat_map(|r| &r.route.route).map(|r| &r.destination);
    let tls = spec.tls.iter().flat_map(|r| &r.route).map(|r| &r.destination);
    let tcp = spec.tcp.iter().flat_map(|r| &r.route).map(|r| &r.destination);
    http.chain(tls).chain(tcp).any(|destination| {
        let host = host::resolve(&destination.host, namespace);
        services.iter().any(|s| s.host == host)
    })
}
