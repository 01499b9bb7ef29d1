//! No host can take the traffic of another, whatever addresses and names its objects say.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::envoy::json::Json;
use mesh_api::istio::{AnyObject, parse};
use mesh_api::names::NodeId;
use serde_json::{Value, json};

use super::*;

fn object(value: &Value) -> Arc<AnyObject> {
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let object = parse(&field("apiVersion"), &field("kind"), value.clone());
    Arc::new(object.expect("a readable object"))
}

fn made(value: &mut Value, day: usize) {
    value["metadata"]["creationTimestamp"] = format!("2024-01-{day:02}T00:00:00Z").into();
}

fn service(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn entry(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name, "namespace": "far"}, "spec": spec})
}

fn compiled(objects: &[Value]) -> Compiled {
    let store = Store::build(objects.iter().map(object), Arc::default());
    let id = NodeId::parse("sidecar~10.1.0.1~caller-1.shop~shop.svc.cluster.local").expect("a node id");
    compile(&store, &Proxy::new(id, BTreeMap::new()))
}

fn json_of(compiled: &Compiled) -> Value {
    crate::cli_compile::to_json(&Json::new(), compiled).expect("JSON")
}

/// All that connections and requests to a host meet: its virtual hosts, clusters, and the listener of its address.
fn traffic(compiled: &Compiled, host: &str, address: &str) -> BTreeMap<String, Value> {
    let all = json_of(compiled);
    let list = |key: &str| all[key].as_array().cloned().unwrap_or_default();
    let mut out = BTreeMap::new();
    for listener in list("listeners") {
        let name = listener["name"].as_str().unwrap_or_default().to_owned();
        if name.starts_with(&format!("{address}_")) {
            out.insert(name, listener);
        }
    }
    for cluster in list("clusters") {
        let name = cluster["name"].as_str().unwrap_or_default().to_owned();
        if name.ends_with(&format!("|{host}")) {
            out.insert(name, cluster);
        }
    }
    for table in list("routes") {
        for one in table["virtual_hosts"].as_array().into_iter().flatten() {
            let name = one["name"].as_str().unwrap_or_default();
            if name.starts_with(&format!("{host}:")) {
                out.insert(format!("{} {name}", table["name"]), one.clone());
            }
        }
    }
    out
}

/// What a host meets is as it was. A port that others speak HTTP on has a route table, in which the host stands for itself.
#[track_caller]
fn unharmed(alone: &Compiled, both: &Compiled, host: &str, address: &str, case: &str) {
    let mut now = traffic(both, host, address);
    for (name, before) in traffic(alone, host, address) {
        assert!(now.remove(&name).as_ref() == Some(&before), "{case}: {name} is another");
    }
    for (name, more) in now {
        assert!(
            name.starts_with('"') && more.to_string().contains(&format!("||{host}\"")),
            "{case}: {name} is new"
        );
    }
}

const WEB: &str = "web.shop.svc.cluster.local";
const ADDRESS: &str = "10.96.0.11";

fn web(port: &str) -> Value {
    let mut web = service(
        "web",
        &json!({"clusterIP": ADDRESS, "ports": [{"name": port, "port": 80, "targetPort": 8080}]}),
    );
    // Younger than all that want its place.
    made(&mut web, 28);
    web
}

#[test]
fn an_entry_with_the_address_of_a_service_takes_none_of_its_traffic() {
    for port in ["http", "tcp", "other"] {
        let alone = compiled(&[web(port)]);
        for protocol in ["HTTP", "TCP", "TLS", ""] {
            for resolution in ["NONE", "STATIC"] {
                let mut thief = json!({"hosts": ["a.example"], "addresses": [ADDRESS], "resolution": resolution,
                    "ports": [{"number": 80, "name": "p", "protocol": protocol}]});
                if resolution == "STATIC" {
                    thief["endpoints"] = json!([{"address": "192.0.2.1"}]);
                }
                let mut thief = entry("thief", &thief);
                made(&mut thief, 1);
                let both = compiled(&[web(port), thief.clone()]);
                let case = format!("{port} and {protocol} {resolution}");
                unharmed(&alone, &both, WEB, ADDRESS, &case);
                let warning = both.warnings.iter().find(|w| w.object == "ServiceEntry far/thief");
                let warning = warning.unwrap_or_else(|| panic!("{case}: {:?}", both.warnings));
                assert_eq!(warning.field, "spec.addresses");
                assert!(warning.message.contains("Service shop/web"), "{warning}");
                let store = Store::build([web(port), thief.clone()].iter().map(object), Arc::default());
                let said = crate::source::between(&store);
                assert!(said.iter().any(|(w, _)| w == warning), "{said:?}");
            }
        }
    }
}

#[test]
fn a_range_around_a_service_leaves_its_requests_alone() {
    let range = entry(
        "range",
        &json!({"hosts": ["range.example"], "addresses": ["10.96.0.0/16"], "resolution": "NONE",
            "ports": [{"number": 80, "name": "tcp", "protocol": "TCP"}]}),
    );
    let all = json_of(&compiled(&[web("http"), range]));
    let mut listeners = all["listeners"].as_array().into_iter().flatten();
    let shared = listeners.find(|l| l["name"] == "0.0.0.0_80").expect("the listener");
    let chains = shared["filter_chains"].as_array().expect("chains");
    let of = |prefix: &str| {
        chains
            .iter()
            .find(|c| c["filter_chain_match"]["prefix_ranges"][0]["address_prefix"] == prefix)
            .map(|c| c["filters"][0]["name"].clone())
    };
    assert_eq!(of("10.96.0.0"), Some("envoy.filters.network.tcp_proxy".into()));
    assert_eq!(
        of(ADDRESS),
        Some("envoy.filters.network.http_connection_manager".into())
    );
}

#[test]
fn of_entries_with_one_address_the_older_has_it_for_those_that_see_it() {
    let of = |name: &str, day: usize, export: &str| {
        let spec = json!({"hosts": [format!("{name}.example")], "addresses": ["192.0.2.1"], "resolution": "NONE",
            "exportTo": [export], "ports": [{"number": 5000, "name": "tcp", "protocol": "TCP"}]});
        let mut entry = entry(name, &spec);
        made(&mut entry, day);
        entry
    };
    let owner = |objects: &[Value]| {
        let all = json_of(&compiled(objects));
        let mut listeners = all["listeners"].as_array().cloned().unwrap_or_default().into_iter();
        let own = listeners.find(|l| l["name"] == "192.0.2.1_5000").expect("the listener");
        own["filter_chains"][0]["filters"][0]["typed_config"]["cluster"].clone()
    };
    assert_eq!(owner(&[of("a", 2, "*"), of("b", 1, "*")]), "outbound|5000||b.example");
    assert_eq!(owner(&[of("a", 1, "*"), of("b", 2, "*")]), "outbound|5000||a.example");
    // The caller does not see the older one.
    assert_eq!(owner(&[of("a", 2, "*"), of("b", 1, ".")]), "outbound|5000||a.example");
}

#[test]
fn an_entry_on_an_address_of_a_headless_services_pod_takes_nothing() {
    let set = service(
        "set",
        &json!({"clusterIP": "None", "selector": {"app": "set"}, "ports": [{"name": "tcp", "port": 5432}]}),
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "set-0", "namespace": "shop", "labels": {"app": "set"}},
        "spec": {"containers": []}, "status": {"podIP": "10.1.0.9"}});
    let host = "set.shop.svc.cluster.local";
    let alone = compiled(&[set.clone(), pod.clone()]);
    for protocol in ["TCP", ""] {
        let spec = json!({"hosts": ["a.example"], "addresses": ["10.1.0.9"], "resolution": "NONE",
            "ports": [{"number": 5432, "name": "p", "protocol": protocol}]});
        let both = compiled(&[set.clone(), pod.clone(), entry("thief", &spec)]);
        unharmed(&alone, &both, host, "10.1.0.9", protocol);
        assert!(both.warnings.iter().any(|w| w.object == "ServiceEntry far/thief"));
    }
}

#[test]
fn names_of_a_kubernetes_service_stay_its_own() {
    let alone = compiled(&[web("http")]);
    for host in ["web", "web.shop", "web.shop.svc", WEB] {
        let mut thief = entry(
            "thief",
            &json!({"hosts": [host], "resolution": "STATIC", "endpoints": [{"address": "192.0.2.1"}],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}),
        );
        made(&mut thief, 1);
        let mut both = compiled(&[web("http"), thief.clone()]);
        unharmed(&alone, &both, WEB, ADDRESS, host);
        // Nor in the caller's own namespace, where an entry for the full name only adds to the service.
        if host != WEB {
            thief["metadata"]["namespace"] = "shop".into();
            both = compiled(&[web("http"), thief]);
            unharmed(&alone, &both, WEB, ADDRESS, host);
        }
    }
}

#[test]
fn an_external_name_answers_to_its_own_names_only() {
    for port in ["http", "tcp"] {
        let alone = compiled(&[web(port)]);
        for target in [WEB, ADDRESS, "web", "far.example"] {
            let mut alias = service(
                "alias",
                &json!({"type": "ExternalName", "externalName": target,
                    "ports": [{"name": "http", "port": 80}, {"name": "tcp", "port": 81}, {"name": "x", "port": 82}]}),
            );
            made(&mut alias, 1);
            let both = compiled(&[web(port), alias]);
            unharmed(&alone, &both, WEB, ADDRESS, target);
            let listeners = |c: &Compiled| c.listeners.keys().cloned().collect::<Vec<_>>();
            let new: Vec<_> = listeners(&both)
                .into_iter()
                .filter(|l| !listeners(&alone).contains(l))
                .collect();
            assert!(new.iter().all(|l| l == "0.0.0.0_80"), "{new:?}");
            assert!(!both.names.table.contains_key("alias.shop.svc.cluster.local"));
        }
    }
}
