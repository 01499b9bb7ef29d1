//! Sidecars that no workload has, and hosts of theirs that are nobody's.

use std::collections::{BTreeMap, HashMap};

use mesh_api::istio::{AnyObject, Object, Sidecar};

use super::object_name;
use crate::compile::Warning;
use crate::store::rules::age;
use crate::store::{Store, host};

/// All findings.
pub(super) fn check(store: &Store) -> Vec<Warning> {
    let mut out = Vec::new();
    let mut all: Vec<&Object<Sidecar>> = store
        .objects()
        .iter()
        .filter_map(|o| match o.as_ref() {
            AnyObject::Sidecar(object) => Some(object),
            _ => None,
        })
        .collect();
    all.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    let mut first: HashMap<(&str, BTreeMap<String, String>), &Object<Sidecar>> = HashMap::new();
    for object in all {
        let selector = object.spec.workload_selector.as_ref();
        let labels = selector.map(|s| s.labels.clone()).unwrap_or_default();
        let whole = labels.is_empty();
        let older = *first.entry((&object.meta.namespace, labels)).or_insert(object);
        if older.meta.name != object.meta.name {
            let text = format!(
                "{} comes first (by age, then name) and is for the same {}; this one has no effect",
                name(older),
                if whole { "namespace" } else { "workloads" }
            );
            out.push(warning(object, if whole { "" } else { "spec.workloadSelector" }, text));
            continue;
        }
        hosts(store, object, &mut out);
    }
    out
}

fn name(object: &Object<Sidecar>) -> String {
    object_name("Sidecar", &object.meta.namespace, &object.meta.name)
}

fn warning(object: &Object<Sidecar>, field: impl Into<String>, message: String) -> Warning {
    Warning {
        object: name(object),
        field: field.into(),
        message,
    }
}

/// Names without a wildcard that no service and no VirtualService has.
fn hosts(store: &Store, object: &Object<Sidecar>, out: &mut Vec<Warning>) {
    let viewer = &object.meta.namespace;
    // That of the root namespace is for all others, each of which sees another.
    if *viewer == store.mesh().root_namespace {
        return;
    }
    for (index, listener) in object.spec.egress.iter().enumerate() {
        for (number, entry) in listener.hosts.iter().enumerate() {
            let Some((of, wanted)) = entry
                .split_once('/')
                .filter(|(of, host)| *of != "~" && !host.starts_with('*'))
            else {
                continue;
            };
            let fits = |namespace: &str| of == "*" || namespace == if of == "." { viewer } else { of };
            let served = store.service_that(wanted, viewer, |s| fits(&s.namespace)).is_some();
            let mut around = store.hosts().filter(|h| h.starts_with('*') && host::covers(h, wanted));
            let covered = around.any(|h| store.service(h, viewer).is_some());
            let mut routed = store.routings_of(wanted, viewer);
            if !served && !covered && !routed.any(|r| fits(&r.object.meta.namespace)) {
                let text = format!(
                    "{entry} names nothing that namespace {viewer} sees; write the full name, such as {}",
                    if wanted.contains('.') {
                        "shop/web.shop.svc.cluster.local".to_owned()
                    } else {
                        format!("{of}/{}", host::resolve(wanted, if of.len() > 1 { of } else { viewer }))
                    }
                );
                out.push(warning(object, format!("spec.egress[{index}].hosts[{number}]"), text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_api::istio::parse;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn sidecars_that_lose_and_hosts_that_are_nobodys_are_reported() {
        let sidecar = |name: &str, day: usize, spec: Value| {
            json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "spec": spec, "metadata":
                {"name": name, "namespace": "shop", "creationTimestamp": format!("2024-01-0{day}T00:00:00Z")}})
        };
        let chosen = json!({"workloadSelector": {"labels": {"app": "web"}}, "egress": [{"hosts": ["./*"]}]});
        let hosts = json!([
            "./web",
            "bank/web.shop.svc.cluster.local",
            "shop/web.shop.svc.cluster.local",
            "*/*.example",
            "~/*",
            "./web.example"
        ]);
        let objects = [
            sidecar("b", 1, json!({"egress": [{"hosts": hosts}]})),
            sidecar("a", 2, json!({"egress": [{"hosts": ["./*"]}]})),
            sidecar("d", 3, chosen.clone()),
            sidecar("c", 4, chosen),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}),
            json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "v", "namespace": "shop"},
                "spec": {"hosts": ["web.example"], "http": [{"route": [{"destination": {"host": "web"}}]}]}}),
        ];
        let objects = objects.into_iter().map(|value| {
            let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            Arc::new(parse(&field("apiVersion"), &field("kind"), value.clone()).expect("a readable object"))
        });
        let found = check(&Store::build(objects, Arc::default()));
        let fields: Vec<String> = found.iter().map(|w| format!("{}: {}", w.object, w.field)).collect();
        assert_eq!(
            fields,
            [
                "Sidecar shop/b: spec.egress[0].hosts[0]",
                "Sidecar shop/b: spec.egress[0].hosts[1]",
                "Sidecar shop/a: ",
                "Sidecar shop/c: spec.workloadSelector",
            ]
        );
        assert!(
            found[0].message.ends_with("./web.shop.svc.cluster.local"),
            "{}",
            found[0]
        );
    }
}
