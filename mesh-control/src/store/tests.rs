//! Tests of the indices, on objects as users write them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_api::istio::{AnyObject, MutualTlsMode, parse};
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> Arc<AnyObject> {
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    Arc::new(parse(&api_version, &kind, value).expect("a readable object"))
}

fn store(objects: impl IntoIterator<Item = Value>) -> Store {
    Store::build(objects.into_iter().map(object), Arc::default())
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "reads better at the callers")]
fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn pod(name: &str, app: &str, ip: &str, ready: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": app, "pod-template-hash": "5f"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-5f"), "uid": "u", "controller": true}]},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}})
}

fn endpoints(store: &Store, host: &str, port: u16) -> Vec<(String, u16)> {
    let service = store.service(host, "shop").expect("the service");
    let list = store.endpoints(service).get(&port).cloned().unwrap_or_default();
    list.into_iter().map(|e| (e.address, e.port)).collect()
}

const WEB: &str = "web.shop.svc.cluster.local";

#[test]
fn endpoints_come_from_ready_pods_by_selector_and_named_port() {
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]});
    let store = store([
        service("web", spec),
        pod("web-2", "web", "10.0.0.2", "True"),
        pod("web-1", "web", "10.0.0.1", "True"),
        pod("web-3", "web", "10.0.0.3", "False"),
        pod("other", "other", "10.0.0.4", "True"),
    ]);
    assert_eq!(
        endpoints(&store, WEB, 80),
        [("10.0.0.1".to_owned(), 8080), ("10.0.0.2".to_owned(), 8080)]
    );
    assert_eq!(store.pod("shop", "web-1").expect("the pod").owner, "web");
}

#[test]
fn endpoint_slices_alone_count_where_there_are_any() {
    let spec = json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-a", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 9090}],
        "endpoints": [
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "web-2"}},
            {"addresses": ["10.0.0.9"], "conditions": {"ready": false}}]});
    let store = store([
        service("web", spec),
        slice,
        pod("web-1", "web", "10.0.0.1", "True"),
        pod("web-2", "web", "10.0.0.2", "True"),
    ]);
    assert_eq!(endpoints(&store, WEB, 80), [("10.0.0.2".to_owned(), 9090)]);
    // The proxy of that Pod serves the port that the slice says.
    let addresses = BTreeSet::from(["10.0.0.2".to_owned()]);
    let web = labels(&[("app", "web")]);
    assert_eq!(store.services_of("shop", &web, &addresses).count(), 1);
}

#[test]
fn addresses_that_are_made_up_depend_on_the_name_alone() {
    let spec = || json!({"ports": [{"port": 80}]});
    let address = |store: &Store| store.service(WEB, "shop").expect("the service").addresses(false, false);
    let alone = store([service("web", spec())]);
    let among = store(["a", "b", "web", "z"].map(|name| service(name, spec())));
    assert_eq!(address(&alone), address(&among));
    let all: BTreeSet<_> = among.services("shop").flat_map(|s| s.addresses(false, false)).collect();
    assert_eq!(all.len(), 4, "each has its own");
    let v6: BTreeSet<_> = among.services("shop").flat_map(|s| s.addresses(false, true)).collect();
    assert!(
        v6.len() == 4 && v6.iter().all(|a| a.to_string().starts_with("2001:2::f0f0:")),
        "{v6:?}"
    );
    let headless = store([service("web", json!({"clusterIP": "None", "ports": [{"port": 80}]}))]);
    assert!(address(&headless).is_empty());
}

#[allow(clippy::needless_pass_by_value, reason = "reads better at the callers")]
fn authentication(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

#[test]
fn mutual_tls_is_resolved_from_the_narrowest_scope() {
    let web = labels(&[("app", "web")]);
    let mode = |store: &Store, port| store.mtls("shop", &web).of_port(port);
    assert_eq!(mode(&store([]), 80), MutualTlsMode::Permissive);

    let mesh = authentication("istio-system", "default", json!({"mtls": {"mode": "STRICT"}}));
    let unset = authentication("shop", "default", json!({"mtls": {"mode": "UNSET"}}));
    let own = authentication(
        "shop",
        "web",
        json!({"selector": {"matchLabels": {"app": "web"}}, "portLevelMtls": {"8080": {"mode": "DISABLE"}, "8081": {"mode": "UNSET"}}}),
    );
    let foreign = authentication(
        "istio-system",
        "other",
        json!({"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "DISABLE"}}),
    );
    let all = store([mesh, unset, own, foreign]);
    assert_eq!(mode(&all, 80), MutualTlsMode::Strict, "UNSET asks the mesh");
    assert_eq!(mode(&all, 8080), MutualTlsMode::Disable);
    assert_eq!(mode(&all, 8081), MutualTlsMode::Strict);
}

#[allow(clippy::needless_pass_by_value, reason = "reads better at the callers")]
fn rule(namespace: &str, name: &str, created: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created}, "spec": spec})
}

#[test]
fn rules_are_taken_from_the_client_then_the_service_then_the_mesh() {
    let created = "2024-01-01T00:00:00Z";
    let spec = json!({"ports": [{"port": 80}]});
    let all = store([
        service("web", spec),
        rule("istio-system", "wide", created, json!({"host": "*.cluster.local"})),
        rule("shop", "of-service", created, json!({"host": "web"})),
        rule(
            "client",
            "of-client",
            created,
            json!({"host": "web.shop.svc.cluster.local"}),
        ),
        rule(
            "private",
            "hidden",
            created,
            json!({"host": "web.shop.svc.cluster.local", "exportTo": ["."]}),
        ),
    ]);
    let name = |client: &str| {
        let service = all.service(WEB, client).expect("the service");
        all.rule(service, client, &labels(&[]))
            .expect("a rule")
            .meta
            .name
            .clone()
    };
    assert_eq!(
        (name("client"), name("elsewhere")),
        ("of-client".to_owned(), "of-service".to_owned())
    );
    assert_eq!(name("private"), "hidden");
}

#[test]
fn rules_of_one_host_are_merged_and_the_oldest_policy_stays() {
    let subset = |name: &str, version: &str| json!({"name": name, "labels": {"version": version}});
    let all = store([
        service("web", json!({"ports": [{"port": 80}]})),
        rule(
            "shop",
            "a-young",
            "2024-02-01T00:00:00Z",
            json!({"host": "web", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}, "subsets": [subset("v1", "young"), subset("v2", "2")]}),
        ),
        rule(
            "shop",
            "b-old",
            "2024-01-01T00:00:00Z",
            json!({"host": "web.shop.svc.cluster.local", "subsets": [subset("v1", "old")]}),
        ),
    ]);
    let service = all.service(WEB, "shop").expect("the service");
    let merged = all.rule(service, "shop", &labels(&[])).expect("a rule");
    let versions: Vec<_> = merged
        .subsets
        .iter()
        .map(|s| (s.name.as_str(), s.labels["version"].as_str()))
        .collect();
    assert_eq!(versions, [("v1", "old"), ("v2", "2")]);
    assert_eq!(merged.meta.name, "b-old");
    assert!(merged.policy.is_some(), "the only one there is");
}

#[test]
fn a_namespace_sees_its_own_service_first_and_no_hidden_ones() {
    let entry = |namespace: &str, export: Value| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "e", "namespace": namespace},
            "spec": {"hosts": ["api.example"], "resolution": "DNS", "ports": [{"number": 80, "name": "http"}], "exportTo": export}})
    };
    let all = store([
        entry("a", json!(["."])),
        entry("b", json!(["*"])),
        entry("c", json!(["."])),
    ]);
    let seen = |viewer: &str| all.service("api.example", viewer).map(|s| s.namespace.clone());
    assert_eq!(seen("a").as_deref(), Some("a"));
    assert_eq!(seen("c").as_deref(), Some("c"));
    assert_eq!(seen("elsewhere").as_deref(), Some("b"));
}

#[test]
fn a_rule_of_the_whole_mesh_comes_last_for_gateways_in_the_root_namespace_too() {
    let created = "2024-01-01T00:00:00Z";
    let wide = rule("istio-system", "wide", created, json!({"host": "*.local"}));
    let own = rule("shop", "own", created, json!({"host": "web"}));
    let private = rule(
        "istio-system",
        "private",
        created,
        json!({"host": WEB, "exportTo": ["."]}),
    );
    let name = |objects: Vec<Value>, client: &str| {
        let all = store(
            objects
                .into_iter()
                .chain([service("web", json!({"ports": [{"port": 80}]}))]),
        );
        let service = all.service(WEB, client).expect("the service");
        all.rule(service, client, &labels(&[])).map(|r| r.meta.name.clone())
    };
    let both = || vec![wide.clone(), own.clone()];
    assert_eq!(name(both(), "istio-system").as_deref(), Some("own"));
    assert_eq!(name(vec![wide.clone()], "istio-system").as_deref(), Some("wide"));
    let with_private = [both(), vec![private]].concat();
    assert_eq!(name(with_private.clone(), "istio-system").as_deref(), Some("private"));
    assert_eq!(name(with_private, "shop").as_deref(), Some("own"));
}

#[test]
fn names_are_no_endpoints_where_nobody_resolves_them() {
    let spec = json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    let entry = |address: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": address, "namespace": "shop"}, "spec": {"address": address, "labels": {"app": "web"}}})
    };
    let selected = store([service("web", spec.clone()), entry("vm.example.org"), entry("10.0.0.7")]);
    assert_eq!(endpoints(&selected, WEB, 80), [("10.0.0.7".to_owned(), 8080)]);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-f", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "FQDN", "ports": [{"name": "http", "port": 80}], "endpoints": [{"addresses": ["vm.example.org"]}]});
    assert_eq!(endpoints(&store([service("web", spec), slice]), WEB, 80), []);
}

#[test]
fn a_new_host_never_moves_the_address_of_another() {
    let entry = |host: &str, day: usize| {
        let name = host.replace('.', "-");
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": format!("2024-01-{day:02}T00:00:00Z")},
            "spec": {"hosts": [host], "resolution": "DNS", "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}})
    };
    let address = |objects: &[Value], host: &str| {
        let store = store(objects.to_vec());
        store
            .service(host, "shop")
            .expect("the service")
            .auto_vip
            .expect("an address")
    };
    // Two hosts that hash alike, found by trying.
    let mut known: BTreeMap<std::net::Ipv4Addr, String> = BTreeMap::new();
    let (older, newer) = (0..)
        .find_map(|number| {
            let host = format!("h{number}.example");
            let address = address(&[entry(&host, 1)], &host);
            known.insert(address, host.clone()).map(|other| (other, host))
        })
        .expect("two of 65,536 addresses meet soon");
    // Whichever comes first by name.
    for (older, newer) in [(&older, &newer), (&newer, &older)] {
        let alone = address(&[entry(older, 1)], older);
        let both = [entry(newer, 2), entry(older, 1)];
        assert_eq!(address(&both, older), alone);
        assert_ne!(address(&both, newer), alone);
    }
}

#[test]
fn a_kubernetes_service_comes_before_entries_for_its_host_in_every_namespace() {
    let mut own = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": "squat", "namespace": "bank", "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"hosts": [WEB, "other.example"], "resolution": "DNS", "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}});
    let web = service("web", json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}));
    let mut elsewhere = own.clone();
    elsewhere["metadata"]["namespace"] = "far".into();
    own["metadata"]["creationTimestamp"] = "2021-01-01T00:00:00Z".into();
    let store = store([web, own, elsewhere]);
    for viewer in ["shop", "bank", "far", "else"] {
        assert!(store.service(WEB, viewer).expect("the service").kubernetes, "{viewer}");
    }
    let seen = |viewer: &str| {
        store
            .service("other.example", viewer)
            .expect("the entry")
            .namespace
            .clone()
    };
    assert_eq!([seen("bank"), seen("far"), seen("else")], ["bank", "far", "far"]);
}
