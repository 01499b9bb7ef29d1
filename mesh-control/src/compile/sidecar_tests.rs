//! Which Sidecar a workload has, and what it sees with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::istio::parse;
use mesh_api::mesh_config::MeshConfig;
use mesh_api::names::NodeId;
use serde_json::{Value, json};

use super::*;

fn store(objects: &[Value]) -> Store {
    let objects = objects.iter().map(|value| {
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Arc::new(parse(&field("apiVersion"), &field("kind"), value.clone()).expect("a readable object"))
    });
    Store::build(objects, Arc::default())
}

fn proxy(kind: &str, namespace: &str, app: &str) -> Proxy {
    let id = format!("{kind}~10.1.0.1~{app}-1.{namespace}~{namespace}.svc.cluster.local");
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    Proxy::new(NodeId::parse(&id).expect("a node id"), labels)
}

fn sidecar(namespace: &str, name: &str, day: usize, app: Option<&str>, hosts: &[&str]) -> Value {
    let mut spec = json!({"egress": [{"hosts": hosts}]});
    if let Some(app) = app {
        spec["workloadSelector"] = json!({"labels": {"app": app}});
    }
    json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "spec": spec, "metadata":
        {"name": name, "namespace": namespace, "creationTimestamp": format!("2024-01-{day:02}T00:00:00Z")}})
}

fn service(namespace: &str, name: &str, address: &str, ports: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": ports}})
}

/// Three services `a`, `b`, `c` of the namespaces `a`, `b`, `c`.
fn three() -> Vec<Value> {
    let of = |(index, name): (usize, &&str)| {
        service(
            name,
            name,
            &format!("10.96.0.{}", index + 1),
            &json!([{"name": "http", "port": 80}]),
        )
    };
    ["a", "b", "c"].iter().enumerate().map(of).collect()
}

/// Names of the services whose clusters the proxy has.
fn seen(objects: &[Value], proxy: &Proxy) -> String {
    let compiled = compile(&store(objects), proxy);
    let hosts = compiled
        .clusters
        .keys()
        .filter_map(|name| name.strip_prefix("outbound|80||"));
    hosts
        .filter_map(|host| host.split('.').next())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_nearest_sidecar_counts_and_of_equal_ones_the_oldest() {
    let mut objects = three();
    assert_eq!(seen(&objects, &proxy("sidecar", "a", "web")), "a b c");
    objects.push(sidecar("istio-system", "mesh", 1, None, &["./*", "c/*"]));
    // A selector in the root namespace is for that namespace's own workloads.
    objects.push(sidecar("istio-system", "own", 1, Some("web"), &["~/*"]));
    assert_eq!(
        seen(&objects, &proxy("sidecar", "a", "web")),
        "a c",
        "`.` is the workload's namespace"
    );
    assert_eq!(seen(&objects, &proxy("sidecar", "istio-system", "web")), "");
    objects.push(sidecar("a", "young", 3, None, &["*/*"]));
    objects.push(sidecar("a", "old", 2, None, &["b/*"]));
    assert_eq!(seen(&objects, &proxy("sidecar", "a", "web")), "b");
    objects.push(sidecar("a", "chosen", 4, Some("web"), &["*/c.c.svc.cluster.local"]));
    objects.push(sidecar("a", "chosen-later", 5, Some("web"), &["*/*"]));
    assert_eq!(seen(&objects, &proxy("sidecar", "a", "web")), "c");
    assert_eq!(seen(&objects, &proxy("sidecar", "a", "db")), "b");
    // Gateways have none.
    assert_eq!(seen(&objects, &proxy("router", "a", "web")), "a b c");
    // One that says nothing of egress leaves all to be seen.
    let open = json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "x", "namespace": "b"},
        "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}});
    objects.push(open);
    let compiled = compile(&store(&objects), &proxy("sidecar", "b", "web"));
    assert_eq!(seen(&objects, &proxy("sidecar", "b", "web")), "a b c");
    let table = compiled.routes["80"].message().expect("a table");
    assert_eq!(table.virtual_hosts.last().map(|h| h.name.as_str()), Some("block_all"));
}

#[test]
fn a_sidecar_overrides_the_meshs_policy_for_unknown_destinations() {
    let mut sidecar = sidecar("a", "open", 1, None, &["./*"]);
    let unknown = |sidecar: &Value| {
        let mesh = MeshConfig::from_yaml("outboundTrafficPolicy: {mode: REGISTRY_ONLY}").expect("readable");
        let store = store(&[sidecar.clone(), three()[0].clone()]);
        let store = Store::build(store.objects().iter().cloned(), Arc::new(mesh));
        let compiled = compile(&store, &proxy("sidecar", "a", "web"));
        let table = compiled.routes["80"].message().expect("a table");
        table.virtual_hosts.last().map(|h| h.name.clone()).unwrap_or_default()
    };
    assert_eq!(unknown(&sidecar), "block_all");
    sidecar["spec"]["outboundTrafficPolicy"] = json!({"mode": "ALLOW_ANY"});
    assert_eq!(unknown(&sidecar), "allow_any");
}

#[test]
fn a_port_with_a_listener_of_its_own_is_not_for_the_one_of_all_others() {
    let ports = json!([{"name": "http", "port": 80}, {"name": "tcp", "port": 5000}]);
    let mut limited = sidecar("a", "ports", 1, None, &["./*"]);
    limited["spec"]["egress"] =
        json!([{"port": {"number": 80, "name": "h", "protocol": "HTTP"}, "hosts": ["b/*"]}, {"hosts": ["./*"]}]);
    let objects = [
        service("a", "a", "10.96.0.1", &ports),
        service("b", "b", "10.96.0.2", &ports),
        limited,
    ];
    let compiled = compile(&store(&objects), &proxy("sidecar", "a", "web"));
    let table = compiled.routes["80"].message().expect("a table");
    let hosts: Vec<&str> = table.virtual_hosts.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(hosts, ["b.b.svc.cluster.local:80", "allow_any"]);
    let listeners: Vec<&str> = compiled.listeners.keys().map(String::as_str).collect();
    assert_eq!(
        listeners,
        ["0.0.0.0_80", "10.96.0.1_5000", "virtualInbound", "virtualOutbound"]
    );
}

#[test]
fn a_host_of_two_namespaces_is_that_of_the_one_that_is_seen() {
    let entry = |namespace: &str, address: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "far", "namespace": namespace},
            "spec": {"hosts": ["far.example"], "resolution": "STATIC", "endpoints": [{"address": address}],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}})
    };
    let objects = [
        entry("a", "192.0.2.1"),
        entry("b", "192.0.2.2"),
        sidecar("a", "one", 1, Some("one"), &["b/*"]),
    ];
    let address = |app: &str| {
        let compiled = compile(&store(&objects), &proxy("sidecar", "a", app));
        format!("{:?}", compiled.endpoints["outbound|80||far.example"].message())
    };
    assert!(address("one").contains("192.0.2.2"));
    assert!(address("other").contains("192.0.2.1"));
}

#[test]
fn a_virtual_service_counts_on_the_ports_whose_listeners_see_it() {
    let ports = json!([{"name": "http", "port": 80}, {"name": "http-b", "port": 81}]);
    let routing = |namespace: &str, to: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "v", "namespace": namespace},
            "spec": {"hosts": ["a.a.svc.cluster.local"], "http": [{"route": [{"destination": {"host": to, "port": {"number": 80}}}]}]}})
    };
    let mut limited = sidecar("a", "ports", 1, None, &["./*"]);
    limited["spec"]["egress"] =
        json!([{"port": {"number": 81, "name": "h", "protocol": "HTTP"}, "hosts": ["*/*"]}, {"hosts": ["./*"]}]);
    let mut objects = vec![
        service("a", "a", "10.96.0.1", &ports),
        service("c", "c", "10.96.0.3", &ports),
        routing("b", "c.c.svc.cluster.local"),
        limited,
    ];
    let clusters = |objects: &[Value]| {
        let compiled = compile(&store(objects), &proxy("sidecar", "a", "web"));
        let of = |table: &str| {
            let table = compiled.routes[table].message().expect("a table");
            format!("{:?}", table.virtual_hosts.first().map(|h| &h.routes))
        };
        (
            of("80"),
            of("81"),
            compiled.clusters.keys().cloned().collect::<Vec<_>>().join(" "),
        )
    };
    let (first, second, known) = clusters(&objects);
    assert!(first.contains("outbound|80||a.a"), "{first}");
    assert!(second.contains("outbound|80||c.c"), "{second}");
    assert!(
        known.contains("outbound|80||c.c"),
        "what it leads to is reached: {known}"
    );
    // Without the listener that sees it nothing of it is left.
    objects[3]["spec"]["egress"] = json!([{"hosts": ["./*"]}]);
    let (first, second, known) = clusters(&objects);
    assert!(!format!("{first}{second}{known}").contains("c.c.svc"), "{known}");
}
