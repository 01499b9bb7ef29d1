//! What no compile step needs to know, and people do.

use std::collections::BTreeSet;

use mesh_api::istio::{AnyObject, DestinationRule, Gateway, Kind, Object, VirtualService};
use mesh_api::k8s::{Namespace, Pod, Service};
use mesh_api::names::{MESH_GATEWAY, annotation, label};

use super::{Code, NO_PROXY, NOT_FOUND, NOT_IN_GATEWAY, NOT_INJECTED, PORT_NAME, SUBSET_WITHOUT_PODS};
use crate::inject::decide::IGNORED_NAMESPACES;
use crate::source::object_name;
use crate::store::protocol::Protocol;
use crate::store::workload::selects;
use crate::store::{Store, host};

/// Takes a finding: code, object, field, message.
type Say<'a> = dyn FnMut(Code, &str, &str, &str) + 'a;

/// The container of the proxy.
const PROXY: &str = "istio-proxy";

/// All checks.
pub(super) fn run(store: &Store, whole: bool, say: &mut Say<'_>) {
    for object in store.objects() {
        match object.as_ref() {
            AnyObject::Namespace(o) if whole => namespace(store, &o.object, say),
            AnyObject::Pod(o) if whole => pod(store, &o.object, say),
            AnyObject::Service(o) => service(store, &o.object, say),
            AnyObject::VirtualService(o) => virtual_service(store, o, say),
            AnyObject::DestinationRule(o) if whole => destination_rule(store, o, say),
            AnyObject::Gateway(o) if whole => gateway(store, o, say),
            _ => {}
        }
    }
}

fn is_system(store: &Store, namespace: &str) -> bool {
    IGNORED_NAMESPACES.contains(&namespace) || namespace == store.mesh().root_namespace
}

fn namespace(store: &Store, namespace: &Namespace, say: &mut Say<'_>) {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let labels = namespace.metadata.labels.as_ref();
    let says = |key: &str| labels.is_some_and(|l| l.contains_key(key));
    if is_system(store, name) || says(label::INJECTION) || says(label::REVISION) {
        return;
    }
    let text = format!(
        "its pods get no proxy; run `kubectl label namespace {name} {on}=enabled` so that new ones do, or label it \
         {on}=disabled to say that this is meant",
        on = label::INJECTION
    );
    say(NOT_INJECTED, &object_name("Namespace", "", name), "", &text);
}

fn pod(store: &Store, pod: &Pod, say: &mut Say<'_>) {
    let meta = &pod.metadata;
    let (name, namespace) = (meta.name.as_deref(), meta.namespace.as_deref());
    let (name, namespace) = (name.unwrap_or_default(), namespace.unwrap_or_default());
    let of_namespace = store.objects().iter().find_map(|o| match o.as_ref() {
        AnyObject::Namespace(o) if o.object.metadata.name.as_deref() == Some(namespace) => Some(&o.object),
        _ => None,
    });
    let labels = of_namespace.and_then(|n| n.metadata.labels.as_ref());
    let injected = labels.is_some_and(|l| {
        l.get(label::INJECTION).is_some_and(|v| v == "enabled")
            || (l.contains_key(label::REVISION) && !l.contains_key(label::INJECTION))
    });
    if !injected || is_system(store, namespace) {
        return;
    }
    let declined = |map: Option<&std::collections::BTreeMap<String, String>>, key: &str| {
        map.and_then(|m| m.get(key)).is_some_and(|v| v == "false")
    };
    let Some(spec) = &pod.spec else { return };
    let done = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if declined(meta.labels.as_ref(), label::INJECT)
        || declined(meta.annotations.as_ref(), annotation::INJECT)
        || spec.host_network == Some(true)
        || matches!(done, Some("Succeeded" | "Failed"))
    {
        return;
    }
    let native = spec.init_containers.iter().flatten();
    if spec.containers.iter().chain(native).any(|c| c.name == PROXY) {
        return;
    }
    let text = "it has no proxy although its namespace asks for one: it is older than the label, or the webhook was away. \
                Restart its workload (kubectl rollout restart)";
    say(NO_PROXY, &object_name("Pod", namespace, name), "", text);
}

fn service(store: &Store, service: &Service, say: &mut Say<'_>) {
    let meta = &service.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    if is_system(store, namespace) {
        return;
    }
    let Some(spec) = &service.spec else { return };
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let name = port.name.as_deref().unwrap_or_default();
        let number = u16::try_from(port.port).unwrap_or_default();
        let spoken = Protocol::of_kubernetes(port.protocol.as_deref(), port.app_protocol.as_deref(), name, number);
        if spoken.is_auto() {
            let text = format!(
                "port {number} ({name:?}) says no protocol, so the first bytes of each connection tell; name it \
                 PROTOCOL or PROTOCOL-NAME (http-{suffix}), or set appProtocol",
                suffix = if name.is_empty() { "web" } else { name }
            );
            let object = object_name("Service", namespace, meta.name.as_deref().unwrap_or_default());
            say(PORT_NAME, &object, &format!("spec.ports[{index}].name"), &text);
        }
    }
}

fn virtual_service(store: &Store, object: &Object<VirtualService>, say: &mut Say<'_>) {
    let namespace = &object.meta.namespace;
    let mut wanted: BTreeSet<String> = object
        .spec
        .gateways
        .iter()
        .map(|g| host::resolve_gateway(g, namespace))
        .collect();
    let for_mesh = wanted.remove(MESH_GATEWAY);
    let gateways: Vec<&Object<Gateway>> = store
        .objects()
        .iter()
        .filter_map(|o| match o.as_ref() {
            AnyObject::Gateway(g) if wanted.contains(&format!("{}/{}", g.meta.namespace, g.meta.name)) => Some(g),
            _ => None,
        })
        .collect();
    for gateway in gateways {
        let served = |host: &String| {
            let hosts = gateway.spec.servers.iter().flat_map(|s| &s.hosts);
            hosts.into_iter().any(|entry| {
                let (space, pattern) = entry.split_once('/').unwrap_or(("*", entry));
                let space = if space == "." {
                    gateway.meta.namespace.as_str()
                } else {
                    space
                };
                (space == "*" || space == namespace) && host::overlap(pattern, &host::resolve(host, namespace))
            })
        };
        let hosts = &object.spec.hosts;
        // Beside a gateway that serves some of them, the others are meant for the mesh.
        if for_mesh && hosts.iter().any(served) {
            continue;
        }
        for (index, host) in hosts.iter().enumerate().filter(|(_, h)| !served(h)) {
            let text = format!(
                "Gateway {}/{} serves no host {host}, so it routes nothing there; add the host to the Gateway, or name another",
                gateway.meta.namespace, gateway.meta.name
            );
            let name = object_name("VirtualService", namespace, &object.meta.name);
            say(NOT_IN_GATEWAY, &name, &format!("spec.hosts[{index}]"), &text);
        }
    }
}

fn destination_rule(store: &Store, object: &Object<DestinationRule>, say: &mut Say<'_>) {
    let namespace = &object.meta.namespace;
    let Some(service) = store.service(&host::resolve(&object.spec.host, namespace), namespace) else {
        return;
    };
    let known = store.endpoints(service);
    if known.values().all(Vec::is_empty) {
        // Nothing runs at all: that is no fault of the subsets.
        return;
    }
    for (index, subset) in object.spec.subsets.iter().enumerate() {
        let mut endpoints = known.values().flatten();
        if !endpoints.any(|e| selects(&subset.labels, &e.workload.labels)) {
            let labels: Vec<String> = subset.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let text = format!(
                "no endpoint of {} has the labels {}, so requests for the subset {:?} get 503",
                service.host,
                labels.join(","),
                subset.name
            );
            let name = object_name("DestinationRule", namespace, &object.meta.name);
            say(
                SUBSET_WITHOUT_PODS,
                &name,
                &format!("spec.subsets[{index}].labels"),
                &text,
            );
        }
    }
}

fn gateway(store: &Store, object: &Object<Gateway>, say: &mut Say<'_>) {
    let selector = &object.spec.selector;
    if selector.is_empty() {
        return;
    }
    let mut pods = store.objects().iter().filter(|o| o.kind() == Kind::Pod);
    let selected = pods.any(|o| match o.as_ref() {
        AnyObject::Pod(o) => o.object.metadata.labels.as_ref().is_some_and(|l| selects(selector, l)),
        _ => false,
    });
    if !selected {
        let labels: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let text = format!(
            "no pod has the labels {}, so nothing serves this Gateway",
            labels.join(",")
        );
        let name = object_name("Gateway", &object.meta.namespace, &object.meta.name);
        say(NOT_FOUND, &name, "spec.selector", &text);
    }
}
