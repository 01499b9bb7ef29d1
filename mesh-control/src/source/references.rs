//! What objects say of each other: names that lead nowhere.
//!
//! Such an object stays in force, as the rest of it may be what its author wants; traffic that needs the missing part is
//! refused with 503. Each finding is one line, whatever the number of proxies that would meet it.

use std::collections::{HashMap, HashSet};

use mesh_api::istio::{AnyObject, Destination, Object, VirtualService};
use mesh_api::names::MESH_GATEWAY;

use super::{Severity, object_name};
use crate::compile::Warning;
use crate::store::{Store, host};

/// A finding about a reference, with its weight.
pub(super) type Reference = (Warning, Severity);

/// All references of all objects that lead nowhere.
pub(super) fn check(store: &Store) -> Vec<Reference> {
    let mut out = Vec::new();
    let subsets = Subsets::of(store);
    for object in store.objects() {
        match object.as_ref() {
            AnyObject::VirtualService(object) => virtual_service(store, &subsets, object, &mut out),
            AnyObject::DestinationRule(rule) => {
                let namespace = &rule.meta.namespace;
                let name = host::resolve(&rule.spec.host, namespace);
                let known = if name.starts_with('*') {
                    store.services(namespace).any(|s| host::covers(&name, &s.host))
                } else {
                    store.service(&name, namespace).is_some()
                };
                if !known {
                    let text = format!("no service is called {name}, so the rule has no effect yet; {REMEDY}");
                    let object = object_name("DestinationRule", namespace, &rule.meta.name);
                    out.push(finding(object, "spec.host".to_owned(), text, Severity::Warning));
                }
            }
            _ => {}
        }
    }
    out
}

/// Subsets of all DestinationRules. Rules for some clients only, and those that only other namespaces see, count too: they
/// are somebody's.
#[derive(Default)]
struct Subsets<'a> {
    /// By full host.
    exact: HashMap<String, HashSet<&'a str>>,
    wildcards: Vec<(String, &'a str)>,
}

impl<'a> Subsets<'a> {
    fn of(store: &'a Store) -> Self {
        let mut out = Subsets::default();
        for object in store.objects() {
            let AnyObject::DestinationRule(rule) = object.as_ref() else {
                continue;
            };
            let host = host::resolve(&rule.spec.host, &rule.meta.namespace);
            let names = rule.spec.subsets.iter().map(|s| s.name.as_str());
            if host.starts_with('*') {
                out.wildcards.extend(names.map(|n| (host.clone(), n)));
            } else {
                out.exact.entry(host).or_default().extend(names);
            }
        }
        out
    }

    fn has(&self, host: &str, subset: &str) -> bool {
        self.exact.get(host).is_some_and(|names| names.contains(subset))
            || self
                .wildcards
                .iter()
                .any(|(w, n)| *n == subset && host::covers(w, host))
    }
}

const REMEDY: &str = "check the name, or add a Service or ServiceEntry";

pub(super) fn finding(object: String, field: String, message: String, severity: Severity) -> Reference {
    let warning = Warning { object, field, message };
    (warning, severity)
}

fn virtual_service(store: &Store, subsets: &Subsets<'_>, object: &Object<VirtualService>, out: &mut Vec<Reference>) {
    let namespace = &object.meta.namespace;
    let name = object_name("VirtualService", namespace, &object.meta.name);
    let spec = &object.spec;
    for (index, gateway) in spec.gateways.iter().enumerate() {
        let full = host::resolve_gateway(gateway, namespace);
        if full != MESH_GATEWAY && !store.has_gateway(&full) {
            let text =
                format!("there is no Gateway {full}, so nothing is routed there; check the name, or add the Gateway");
            out.push(finding(
                name.clone(),
                format!("spec.gateways[{index}]"),
                text,
                Severity::Error,
            ));
        }
    }
    let mut destination = |destination: &Destination, field: String| {
        if let Some((part, text)) = broken(store, subsets, namespace, destination) {
            out.push(finding(name.clone(), format!("{field}.{part}"), text, Severity::Error));
        }
    };
    for (i, rule) in spec.http.iter().enumerate() {
        for (j, route) in rule.route.iter().enumerate() {
            destination(&route.destination, format!("spec.http[{i}].route[{j}].destination"));
        }
        if let Some(mirror) = &rule.mirror {
            destination(mirror, format!("spec.http[{i}].mirror"));
        }
        for (j, mirror) in rule.mirrors.iter().enumerate() {
            destination(&mirror.destination, format!("spec.http[{i}].mirrors[{j}].destination"));
        }
    }
    for (i, rule) in spec.tls.iter().enumerate() {
        for (j, route) in rule.route.iter().enumerate() {
            destination(&route.destination, format!("spec.tls[{i}].route[{j}].destination"));
        }
    }
    for (i, rule) in spec.tcp.iter().enumerate() {
        for (j, route) in rule.route.iter().enumerate() {
            destination(&route.destination, format!("spec.tcp[{i}].route[{j}].destination"));
        }
    }
}

/// The part of a destination that leads nowhere, and why.
fn broken(
    store: &Store,
    subsets: &Subsets<'_>,
    namespace: &str,
    destination: &Destination,
) -> Option<(&'static str, String)> {
    let name = host::resolve(&destination.host, namespace);
    let Some(service) = store.service(&name, namespace) else {
        return Some((
            "host",
            format!("no service is called {name}; requests get 503. {}", capital(REMEDY)),
        ));
    };
    if let Some(port) = &destination.port {
        let number = u16::try_from(port.number).ok();
        if number.is_none_or(|n| service.port(n).is_none()) {
            let known: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
            let text = format!(
                "service {name} has no port {} (it has {}); requests get 503",
                port.number,
                known.join(", ")
            );
            return Some(("port.number", text));
        }
    }
    let subset = &destination.subset;
    (!subset.is_empty() && !subsets.has(&name, subset)).then(|| {
        let text = format!("no DestinationRule for {name} has the subset {subset:?}; requests get 503");
        ("subset", text)
    })
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}
