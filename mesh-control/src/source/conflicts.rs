//! Objects that speak for one thing: the first, by age and then by name, counts; the author of the other is told.
//!
//! Which one counts is decided where the objects are indexed and compiled; here it is only said.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_api::istio::{AnyObject, DestinationRule, Object, PeerAuthentication, ServiceEntry, VirtualService};
use mesh_api::names::MESH_GATEWAY;

use super::object_name;
use crate::compile::Warning;
use crate::store::rules::age;
use crate::store::service::Service;
use crate::store::{Store, claim, host};

/// All conflicts.
pub(super) fn check(store: &Store) -> Vec<Warning> {
    let mut out = Vec::new();
    virtual_services(store, &mut out);
    destination_rules(store, &mut out);
    peer_authentications(store, &mut out);
    service_entries(store, &mut out);
    addresses(store, &mut out);
    out
}

macro_rules! oldest_first {
    ($store:expr, $kind:ident) => {{
        let mut found: Vec<_> = $store
            .objects()
            .iter()
            .filter_map(|o| match o.as_ref() {
                AnyObject::$kind(object) => Some(object),
                _ => None,
            })
            .collect();
        found.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        found
    }};
}

fn warning<T>(kind: &str, object: &Object<T>, field: impl Into<String>, message: String) -> Warning {
    Warning {
        object: object_name(kind, &object.meta.namespace, &object.meta.name),
        field: field.into(),
        message,
    }
}

fn name<T>(kind: &str, object: &Object<T>) -> String {
    object_name(kind, &object.meta.namespace, &object.meta.name)
}

/// Sidecars take the rules for a host from one VirtualService. (Gateways merge them.)
fn virtual_services(store: &Store, out: &mut Vec<Warning>) {
    const KIND: &str = "VirtualService";
    let default = &store.mesh().default_virtual_service_export_to;
    let mut first: HashMap<String, Vec<&Object<VirtualService>>> = HashMap::new();
    for object in oldest_first!(store, VirtualService) {
        let (spec, namespace) = (&object.spec, &object.meta.namespace);
        let for_sidecars = spec.gateways.is_empty() || spec.gateways.iter().any(|g| g == MESH_GATEWAY);
        if !for_sidecars || spec.http.is_empty() {
            continue;
        }
        for (index, host) in spec.hosts.iter().enumerate() {
            let older = first.entry(host::resolve(host, namespace)).or_default();
            let seen_together = |other: &&&Object<VirtualService>| {
                let viewers = [namespace, &other.meta.namespace]
                    .into_iter()
                    .chain(&spec.export_to)
                    .chain(&other.spec.export_to);
                viewers.into_iter().any(|viewer| {
                    [*other, object].iter().all(|o| {
                        let export_to = &o.spec.export_to;
                        viewer != "*" && host::visible(export_to, default, &o.meta.namespace, viewer)
                    })
                })
            };
            if let Some(other) = older.iter().find(seen_together) {
                let text = format!(
                    "{} comes first (by age, then name) and has the same host; sidecars use its http rules and none of these. Write them into one object",
                    name(KIND, other)
                );
                out.push(warning(KIND, object, format!("spec.hosts[{index}]"), text));
            } else {
                older.push(object);
            }
        }
    }
}

/// Rules of one namespace for one host are merged: subsets by name, and the oldest traffic policy.
fn destination_rules(store: &Store, out: &mut Vec<Warning>) {
    const KIND: &str = "DestinationRule";
    let mut first: HashMap<(&str, String), Vec<&Object<DestinationRule>>> = HashMap::new();
    for object in oldest_first!(store, DestinationRule) {
        let (spec, namespace) = (&object.spec, object.meta.namespace.as_str());
        let all = first
            .entry((namespace, host::resolve(&spec.host, namespace)))
            .or_default();
        let older = all
            .iter()
            .filter(|o| o.spec.workload_selector == spec.workload_selector);
        for other in older {
            if other.spec.export_to != spec.export_to {
                let text = format!(
                    "{} comes first (by age, then name) and has the same host with another exportTo; clients that see both use it and nothing of this one",
                    name(KIND, other)
                );
                out.push(warning(KIND, object, "spec.exportTo", text));
                continue;
            }
            if spec.traffic_policy.is_some() && other.spec.traffic_policy.is_some() {
                let text = format!(
                    "{} comes first (by age, then name) and has a trafficPolicy for the same host, which is used; this one has no effect",
                    name(KIND, other)
                );
                out.push(warning(KIND, object, "spec.trafficPolicy", text));
            }
            for (index, subset) in spec.subsets.iter().enumerate() {
                if other.spec.subsets.iter().any(|s| s.name == subset.name) {
                    let text = format!(
                        "{} comes first (by age, then name) and has the subset {:?} of the same host, which is used; this one has no effect",
                        name(KIND, other),
                        subset.name
                    );
                    out.push(warning(KIND, object, format!("spec.subsets[{index}]"), text));
                }
            }
        }
        all.push(object);
    }
}

fn peer_authentications(store: &Store, out: &mut Vec<Warning>) {
    const KIND: &str = "PeerAuthentication";
    type Scope<'a> = (&'a str, BTreeMap<String, String>);
    let mut first: HashMap<Scope<'_>, &Object<PeerAuthentication>> = HashMap::new();
    for object in oldest_first!(store, PeerAuthentication) {
        let selector = object.spec.selector.as_ref();
        let labels = selector.map(|s| s.match_labels.clone()).unwrap_or_default();
        let whole = labels.is_empty();
        if let Some(other) = first.get(&(object.meta.namespace.as_str(), labels.clone())) {
            let text = format!(
                "{} comes first (by age, then name) and is for the same {}; this one has no effect",
                name(KIND, other),
                if whole { "namespace" } else { "workloads" }
            );
            let field = if whole { "" } else { "spec.selector" };
            out.push(warning(KIND, object, field, text));
        } else {
            first.insert((&object.meta.namespace, labels), object);
        }
    }
}

/// One address and port of several hosts.
fn addresses(store: &Store, out: &mut Vec<Warning>) {
    for (address, port, claims) in store.claims().iter() {
        for (index, service) in claims.iter().enumerate() {
            let both_seen = |other: &&Arc<Service>| {
                let exports = service.export_to.iter().chain(&other.export_to);
                let mut viewers = exports.chain([&service.namespace, &other.namespace]);
                let picked = |s: &Arc<Service>, viewer: &str| {
                    store.service(&s.host, viewer).is_some_and(|seen| Arc::ptr_eq(seen, s))
                };
                other.host != service.host
                    && (other.kubernetes || viewers.any(|v| picked(service, v) && picked(other, v)))
            };
            if let Some(other) = claims[..index].iter().find(both_seen) {
                let (field, message) = claim::refusal(service, address, port, other);
                out.push(Warning {
                    object: service.object.clone(),
                    field: field.to_owned(),
                    message,
                });
            }
        }
    }
}

/// ServiceEntries of one namespace for one host add their ports and endpoints to the oldest, which decides all else.
fn service_entries(store: &Store, out: &mut Vec<Warning>) {
    const KIND: &str = "ServiceEntry";
    let mut first: HashMap<(&str, &str), &Object<ServiceEntry>> = HashMap::new();
    for object in oldest_first!(store, ServiceEntry) {
        let (spec, namespace) = (&object.spec, object.meta.namespace.as_str());
        for (index, host) in spec.hosts.iter().enumerate() {
            if store.service(host, namespace).is_some_and(|s| s.kubernetes) {
                let text = format!("{host} is a Kubernetes Service, which is used where both are seen");
                out.push(warning(KIND, object, format!("spec.hosts[{index}]"), text));
            }
            let Some(other) = first.get(&(namespace, host.as_str())) else {
                first.insert((namespace, host), object);
                continue;
            };
            let differing = [
                ("resolution", spec.resolution != other.spec.resolution),
                ("location", spec.location != other.spec.location),
                ("addresses", spec.addresses != other.spec.addresses),
                ("exportTo", spec.export_to != other.spec.export_to),
                (
                    "subjectAltNames",
                    spec.subject_alt_names != other.spec.subject_alt_names,
                ),
            ];
            for (field, _) in differing.into_iter().filter(|(_, differs)| *differs) {
                let text = format!(
                    "{} comes first (by age, then name) and has the same host {host} with another {field}, which is used for both",
                    name(KIND, other)
                );
                out.push(warning(KIND, object, format!("spec.{field}"), text));
            }
            for (index, port) in spec.ports.iter().enumerate() {
                let known = other.spec.ports.iter().find(|p| p.number == port.number);
                if known.is_some_and(|p| p.protocol != port.protocol || p.name != port.name) {
                    let text = format!(
                        "{} comes first (by age, then name) and has port {} of the same host {host} with another name or protocol, which is used",
                        name(KIND, other),
                        port.number
                    );
                    out.push(warning(KIND, object, format!("spec.ports[{index}]"), text));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_api::istio::{Kind, parse};
    use serde_json::{Value, json};

    use super::*;

    /// Fields reported, for objects of one namespace that were made in this order.
    fn found(kind: Kind, specs: &[(&str, Value)]) -> Vec<String> {
        let objects = specs.iter().enumerate().map(|(day, (name, spec))| {
            let value = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "spec": spec, "metadata":
                {"name": name, "namespace": "shop", "creationTimestamp": format!("2024-01-0{}T00:00:00Z", day + 1)}});
            Arc::new(parse(&kind.api_version(), kind.as_str(), value).expect("a readable object"))
        });
        let found = check(&Store::build(objects, Arc::default()));
        found
            .into_iter()
            .map(|w| format!("{}: {}", w.object, w.field))
            .collect()
    }

    #[test]
    fn the_younger_virtual_service_of_a_host_is_reported() {
        let spec = |gateways: Value, export: Value| {
            json!({"hosts": ["web"], "gateways": gateways, "exportTo": export,
                "http": [{"route": [{"destination": {"host": "web"}}]}]})
        };
        let all = || spec(json!([]), json!([]));
        let at_gateway = spec(json!(["gw"]), json!([]));
        let elsewhere = spec(json!([]), json!(["other"]));
        let nobody = spec(json!([]), json!(["a-third"]));
        assert_eq!(
            found(Kind::VirtualService, &[("z", all()), ("gw", at_gateway), ("a", all())]),
            ["VirtualService shop/a: spec.hosts[0]"]
        );
        assert_eq!(
            found(Kind::VirtualService, &[("a", elsewhere), ("b", nobody)]),
            [""; 0],
            "nobody sees both"
        );
    }

    #[test]
    fn what_merged_rules_lose_is_reported() {
        let rule = |version: &str| {
            json!({"host": "web", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}},
                "subsets": [{"name": "v1"}, {"name": version}]})
        };
        assert_eq!(
            found(Kind::DestinationRule, &[("z", rule("v2")), ("a", rule("v3"))]),
            [
                "DestinationRule shop/a: spec.trafficPolicy",
                "DestinationRule shop/a: spec.subsets[0]"
            ]
        );
        let mode = |mode: &str| json!({"mtls": {"mode": mode}});
        assert_eq!(
            found(
                Kind::PeerAuthentication,
                &[("z", mode("STRICT")), ("a", mode("PERMISSIVE"))]
            ),
            ["PeerAuthentication shop/a: "]
        );
        let entry = |resolution: &str, protocol: &str| {
            json!({"hosts": ["api.example"], "resolution": resolution, "location": "MESH_EXTERNAL",
                "ports": [{"number": 443, "name": "p", "protocol": protocol}]})
        };
        assert_eq!(
            found(
                Kind::ServiceEntry,
                &[("z", entry("DNS", "TLS")), ("a", entry("NONE", "HTTP"))]
            ),
            [
                "ServiceEntry shop/a: spec.resolution",
                "ServiceEntry shop/a: spec.ports[0]"
            ]
        );
    }
}
