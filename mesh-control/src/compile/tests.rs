//! Tests of what golden files cannot show: who is asking changes the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::envoy::json::Json;
use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::type_url;
use mesh_api::istio::{AnyObject, parse};
use mesh_api::names::NodeId;
use prost::Message;
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> Arc<AnyObject> {
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    Arc::new(parse(&api_version, &kind, value).expect("a readable object"))
}

fn store() -> Store {
    let service = |name: &str, port: Value| {
        object(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": name}, "ports": [port]}}),
        )
    };
    Store::build(
        [
            service("web", json!({"name": "http", "port": 80, "targetPort": 8080})),
            service("db", json!({"name": "tcp", "port": 5432, "targetPort": 5432})),
        ],
        Arc::default(),
    )
}

fn sidecar(labels: &[(&str, &str)]) -> Proxy {
    let id = NodeId::parse("sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local").expect("a node id");
    let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Proxy::new(id, labels)
}

fn message<M: Message + Default>(encoded: &Encoded<M>) -> M {
    encoded.message().expect("the bytes of a message")
}

fn text(compiled: &Compiled) -> String {
    crate::cli_compile::to_json(&Json::new(), compiled)
        .expect("JSON")
        .to_string()
}

#[test]
fn labels_of_the_caller_decide_what_is_its_own() {
    let store = store();
    let stranger = compile(&store, &sidecar(&[]));
    assert!(!stranger.clusters.contains_key("inbound|8080||"));
    let web = compile(&store, &sidecar(&[("app", "web")]));
    assert!(web.clusters.contains_key("inbound|8080||"));
    assert!(web.clusters.contains_key("outbound|5432||db.shop.svc.cluster.local"));
}

#[test]
fn listeners_and_lookups_follow_the_families_of_the_pods_addresses() {
    let addresses = |ips: &[&str]| {
        let pod_ips: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        let entry = json!({"hosts": ["far.example"], "resolution": "DNS", "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]});
        let store = Store::build(
            [
                object(
                    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop"},
                    "spec": {"containers": []}, "status": {"phase": "Running", "podIP": ips[0], "podIPs": pod_ips}}),
                ),
                object(json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                    "metadata": {"name": "far", "namespace": "shop"}, "spec": entry})),
            ],
            Arc::default(),
        );
        let id = format!("sidecar~{}~web-1.shop~shop.svc.cluster.local", ips[0]);
        let compiled = compile(
            &store,
            &Proxy::new(NodeId::parse(&id).expect("a node id"), BTreeMap::new()),
        );
        let json: Value = serde_json::from_str(&text(&compiled)).expect("JSON");
        let listeners = json["listeners"].as_array().expect("listeners").iter();
        let shown = listeners.map(|listener| {
            let more = listener["additional_addresses"].as_array().into_iter().flatten();
            let all = std::iter::once(listener)
                .chain(more)
                .map(|a| &a["address"]["socket_address"]["address"]);
            all.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        });
        let lookup = message(&compiled.clusters["outbound|80||far.example"]).dns_lookup_family;
        (
            shown
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>(),
            lookup,
        )
    };
    use crate::compile::pb::cluster::cluster::DnsLookupFamily::{All, V4Only, V6Only};
    let of = |text: &str| vec![text.to_owned()];
    assert_eq!(addresses(&["10.1.0.1"]), (of("0.0.0.0"), V4Only.into()));
    assert_eq!(addresses(&["fd10::1"]), (of("::"), V6Only.into()));
    assert_eq!(addresses(&["10.1.0.1", "fd10::1"]), (of("0.0.0.0 ::"), All.into()));
    assert_eq!(addresses(&["fd10::1", "10.1.0.1"]), (of(":: 0.0.0.0"), All.into()));
}

#[test]
fn a_plain_envoy_is_not_offered_the_metadata_exchange() {
    let store = store();
    let mut proxy = sidecar(&[("app", "db")]);
    // Chains match the token whoever sends it; agreeing on it is another thing.
    let offered = |proxy: &Proxy| {
        text(&compile(&store, proxy))
            .matches("\"alpn_protocols\":[\"istio-peer-exchange\"")
            .count()
    };
    assert!(offered(&proxy) > 0);
    proxy.istio_peer_exchange = false;
    assert_eq!(offered(&proxy), 0);
}

#[test]
fn opaque_chains_exchange_metadata_and_count() {
    let store = store();
    let mut proxy = sidecar(&[("app", "db")]);
    let chains = |proxy: &Proxy| {
        let compiled = compile(&store, proxy);
        let listeners: Vec<Listener> = compiled.listeners.values().map(message).collect();
        let chains = listeners
            .iter()
            .flat_map(|l| l.filter_chains.iter().chain(&l.default_filter_chain));
        let names = chains.map(|c| c.filters.iter().map(|f| f.name.clone()).collect::<Vec<_>>());
        names
            .filter(|names| names.last().is_some_and(|n| n.ends_with("tcp_proxy")))
            .collect::<Vec<_>>()
    };
    let own = [
        "istio.metadata_exchange",
        "istio.stats",
        "envoy.filters.network.tcp_proxy",
    ];
    proxy.istio_network_filters = true;
    assert!(chains(&proxy).len() > 3 && chains(&proxy).iter().all(|names| *names == own));
    proxy.istio_network_filters = false;
    assert!(
        chains(&proxy).iter().all(|names| *names == own[2..]),
        "an Envoy has only its own"
    );
}

#[test]
fn a_node_says_who_it_is() {
    let node = |agent: &str| Node {
        id: "router~10.1.0.2~gw.shop~shop.svc.cluster.local".to_owned(),
        user_agent_name: agent.to_owned(),
        ..Default::default()
    };
    assert!(!Proxy::from_node(&node("envoy")).expect("a node").istio_peer_exchange);
    let proxy = Proxy::from_node(&node("ferromesh")).expect("a node");
    assert!(proxy.istio_peer_exchange && proxy.istio_network_filters && proxy.is_gateway());
    assert!(Proxy::from_node(&Node::default()).is_err());
}

#[test]
fn every_type_is_packed_and_versions_follow_content() {
    let json = Json::new();
    let store = store();
    let first = packed(&json, compile(&store, &sidecar(&[("app", "web")])));
    let types = [
        type_url::LISTENER,
        type_url::ROUTE,
        type_url::CLUSTER,
        type_url::ENDPOINT,
        type_url::SECRET,
        type_url::NAME_TABLE,
    ];
    assert!(types.iter().all(|t| first.contains_key(t)));
    let other = packed(&json, compile(&store, &sidecar(&[])));
    let version = |packed: &Packed, t: &str, name: &str| packed[t][name].version.clone();
    let outbound = "outbound|5432||db.shop.svc.cluster.local";
    assert_eq!(
        version(&first, type_url::CLUSTER, outbound),
        version(&other, type_url::CLUSTER, outbound)
    );
    assert_ne!(
        version(&first, type_url::LISTENER, "virtualInbound"),
        version(&other, type_url::LISTENER, "virtualInbound")
    );
}

#[test]
fn the_name_table_has_every_service_with_its_address() {
    let names = compile(&store(), &sidecar(&[])).names;
    let web = &names.table["web.shop.svc.cluster.local"];
    assert_eq!(
        (web.ips.as_slice(), web.shortname.as_str()),
        (["10.0.0.1".to_owned()].as_slice(), "web")
    );
}

fn of(values: impl IntoIterator<Item = Value>, proxy: &Proxy) -> Compiled {
    compile(&Store::build(values.into_iter().map(object), Arc::default()), proxy)
}

fn istio(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

#[test]
fn a_tcp_server_whose_tls_cannot_be_had_is_left_out_and_not_opened_in_the_clear() {
    let id = NodeId::parse("router~10.1.0.1~gw-1.shop~shop.svc.cluster.local").expect("a node id");
    let router = Proxy::new(id, BTreeMap::from([("app".to_owned(), "gw".to_owned())]));
    let gateway = |tls: Value| {
        let server = json!({"port": {"number": 9000, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"], "tls": tls});
        istio(
            "Gateway",
            "gw",
            &json!({"selector": {"app": "gw"}, "servers": [server]}),
        )
    };
    let routing = istio(
        "VirtualService",
        "db",
        &json!({"hosts": ["*"], "gateways": ["gw"], "tcp": [{"route": [{"destination": {"host": "db"}}]}]}),
    );
    let good = json!({"mode": "SIMPLE", "credentialName": "c"});
    let compiled = of([gateway(good), routing.clone()], &router);
    let chains = message(&compiled.listeners["0.0.0.0_9000"]).filter_chains;
    assert!(chains.iter().all(|c| c.transport_socket.is_some()), "{chains:?}");
    // No roots: what MUTUAL asks of clients could not be checked.
    let files = json!({"mode": "MUTUAL", "serverCertificate": "/c.pem", "privateKey": "/k.pem"});
    let value = gateway(files);
    let (api_version, kind) = ("networking.istio.io/v1", "Gateway");
    if parse(api_version, kind, value.clone()).is_ok() {
        let compiled = of([value, routing], &router);
        assert!(compiled.listeners.is_empty(), "{:?}", compiled.listeners.keys());
    }
}

#[test]
fn one_virtual_service_for_several_tls_hosts_is_no_conflict() {
    let entry = |name: &str| {
        let ports = json!([{"number": 443, "name": "tls", "protocol": "TLS"}]);
        istio(
            "ServiceEntry",
            name,
            &json!({"hosts": [format!("{name}.example")], "resolution": "DNS", "ports": ports}),
        )
    };
    let to = |sni: Value, host: &str| json!({"match": [{"sniHosts": sni}], "route": [{"destination": {"host": host}}]});
    let routing = istio(
        "VirtualService",
        "both",
        &json!({"hosts": ["a.example", "b.example"],
            "tls": [to(json!(["a.example"]), "b.example"), to(json!(["b.example"]), "a.example")]}),
    );
    let compiled = of([entry("a"), entry("b"), routing], &sidecar(&[]));
    assert_eq!(compiled.warnings, []);
    let chains = message(&compiled.listeners["0.0.0.0_443"]).filter_chains;
    assert_eq!(chains.len(), 2, "{chains:?}");
}

#[test]
fn where_a_caller_runs_is_known_from_its_pod_its_node_or_its_own_word() {
    let pod = |name: &str, labels: Value, node: &str| {
        object(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": labels},
            "spec": {"containers": [], "nodeName": node}, "status": {"phase": "Running", "podIP": "10.1.0.9"}}),
        )
    };
    let zone = json!({"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": "z2"});
    let store = Store::build(
        [
            pod("labelled", json!({"istio-locality": "r0.z0"}), "n"),
            pod("placed", json!({}), "n"),
            pod("lost", json!({}), ""),
            object(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": zone}})),
        ],
        Arc::default(),
    );
    let locality = |name: &str, labels: &[(&str, &str)], said: [&str; 3]| {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), pb::text(*v))).collect();
        let [region, zone, sub_zone] = said.map(str::to_owned);
        let node = Node {
            id: format!("sidecar~10.1.0.9~{name}.shop~shop.svc.cluster.local"),
            locality: Some(pb::core::Locality { region, zone, sub_zone }),
            metadata: Some(pb::fields([("LABELS", pb::object(pb::Struct { fields: labels }))])),
            ..Node::default()
        };
        let proxy = Proxy::from_node(&node).expect("a node id");
        Context::new(&store, &proxy).locality.to_owned()
    };
    let said = ["r3", "", "s3"];
    assert_eq!(locality("labelled", &[("istio-locality", "r4.z4")], said), "r0/z0");
    assert_eq!(locality("placed", &[], said), "r1/z2");
    assert_eq!(locality("lost", &[("istio-locality", "r4.z4")], said), "r4/z4");
    assert_eq!(locality("unknown", &[], said), "r3");
    assert_eq!(locality("unknown", &[], [""; 3]), "");
}
