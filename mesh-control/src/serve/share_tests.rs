//! What is shared and what is taken over must not show: the result is that of a compile of everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::envoy::json::Json;
use mesh_api::envoy::type_url::{CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE};
use mesh_api::istio::{AnyObject, parse};
use mesh_api::names::NodeId;
use serde_json::{Value, json};

use super::ads::hub::Generate;
use super::ads::resources::Resources;
use super::model::Snapshot;
use crate::compile::Proxy;
use crate::source::Loaded;

const TYPES: [&str; 5] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, NAME_TABLE];

/// Objects by what they are called; of each the newest.
#[derive(Clone, Default)]
struct World(BTreeMap<String, Arc<AnyObject>>);

impl World {
    fn put(&mut self, value: Value) {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&value["apiVersion"]), text(&value["kind"]));
        let object = parse(&api_version, &kind, value).expect("a readable object");
        let name = format!("{kind} {}/{}", object.namespace(), object.name());
        self.0.insert(name, Arc::new(object));
    }

    fn pod(&mut self, namespace: &str, app: &str, pod: usize, address: usize, account: &str, ready: bool) {
        let ready = if ready { "True" } else { "False" };
        self.put(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{app}-{pod}"), "namespace": namespace,
                "labels": {"app": app, "version": format!("v{}", pod % 2), "security.istio.io/tlsMode": "istio",
                    "istio-locality": format!("r.z{}", pod % 2)}},
            "spec": {"serviceAccountName": account, "containers": [{"name": "a", "ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"podIP": ip(address), "conditions": [{"type": "Ready", "status": ready}]}}));
    }

    fn service(&mut self, namespace: &str, app: &str, cluster_ip: &str, port: &str) {
        let mut spec = json!({"selector": {"app": app},
            "ports": [{"name": port, "port": 80, "targetPort": "web"}, {"name": "tcp", "port": 8080, "targetPort": 8080}]});
        if !cluster_ip.is_empty() {
            spec["clusterIP"] = cluster_ip.into();
        }
        self.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": app, "namespace": namespace}, "spec": spec}));
    }

    /// A service without a selector, whose addresses stand in a slice.
    fn listed(&mut self, namespace: &str, app: &str, addresses: &[usize]) {
        self.put(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": app, "namespace": namespace},
            "spec": {"clusterIP": "10.96.1.1", "ports": [{"name": "http", "port": 80}]}}),
        );
        let endpoints: Vec<Value> = addresses.iter().map(|a| json!({"addresses": [ip(*a)]})).collect();
        self.put(
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": app, "namespace": namespace, "labels": {"kubernetes.io/service-name": app}},
            "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}]}),
        );
    }

    fn subsets(&mut self, namespace: &str, app: &str, selector: Option<&str>) {
        let mut spec = json!({"host": app, "subsets": [{"name": "v0", "labels": {"version": "v0"}}, {"name": "v1", "labels": {"version": "v1"}}]});
        if let Some(version) = selector {
            spec["workloadSelector"] = json!({"matchLabels": {"version": version}});
        }
        self.put(
            json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": format!("{app}-{}", selector.unwrap_or("all")), "namespace": namespace}, "spec": spec}),
        );
    }

    fn ejecting(&mut self, namespace: &str, app: &str) {
        self.policy(namespace, app, &json!({"outlierDetection": {"interval": "5s"}}));
    }

    fn policy(&mut self, namespace: &str, app: &str, policy: &Value) {
        self.put(
            json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": format!("{app}-all"), "namespace": namespace},
            "spec": {"host": app, "trafficPolicy": policy}}),
        );
    }

    /// Policies that look at places and labels of callers and endpoints.
    fn near(&mut self, namespace: &str, app: &str, which: usize) {
        let setting = [
            json!({"failover": [{"from": "r", "to": "q"}]}),
            json!({"failoverPriority": ["version", "topology.kubernetes.io/zone"]}),
            json!({"distribute": [{"from": "r/z0", "to": {"r/z0": 80, "r/z1": 20}}]}),
            json!({"enabled": false}),
        ];
        let setting = &setting[which % setting.len()];
        let policy = json!({"outlierDetection": {"interval": "5s"}, "loadBalancer": {"localityLbSetting": setting}});
        self.policy(namespace, app, &policy);
    }

    /// Patches of the clusters of one workload's callees, of all parts of a sidecar.
    fn patched(&mut self, namespace: &str, app: &str, seconds: usize) {
        let patch = |apply_to: &str, value: Value| json!({"applyTo": apply_to, "patch": {"operation": "MERGE", "value": value}});
        self.put(
            json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": {"name": app, "namespace": namespace},
            "spec": {"workloadSelector": {"labels": {"app": app}}, "configPatches": [
                patch("CLUSTER", json!({"connect_timeout": format!("{seconds}s")})),
                patch("VIRTUAL_HOST", json!({"request_headers_to_remove": ["x"]})),
                patch("LISTENER", json!({"per_connection_buffer_limit_bytes": seconds})),
                {"applyTo": "CLUSTER", "match": {"cluster": {"subset": "v1"}}, "patch": {"operation": "REMOVE"}},
            ]}}),
        );
    }

    /// A Sidecar of one app, or of a whole namespace.
    fn limited(&mut self, namespace: &str, app: Option<&str>, which: usize) {
        let egress = [
            json!([{"hosts": ["./*"]}]),
            json!([{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*/*"]}, {"hosts": ["bank/*"]}]),
            json!([{"hosts": ["*/web.shop.svc.cluster.local", "~/*"]}]),
            json!([]),
        ];
        let mut spec = json!({"egress": egress[which % egress.len()], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "inboundConnectionPool": {"tcp": {"maxConnections": 1 + which}}});
        if let Some(app) = app {
            spec["workloadSelector"] = json!({"labels": {"app": app}});
        }
        self.put(json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": app.unwrap_or("all"), "namespace": namespace}, "spec": spec}));
    }

    fn start() -> Self {
        let mut world = World::default();
        for (index, namespace) in ["bank", "shop"].into_iter().enumerate() {
            world.service(namespace, "web", "10.96.0.1", "http");
            world.service(namespace, "db", "10.96.0.2", "tcp-db");
            world.service(namespace, "set", "None", "tcp-set");
            for (number, app) in ["web", "db", "set"].into_iter().enumerate() {
                for pod in 0..3 {
                    world.pod(namespace, app, pod, index * 100 + number * 10 + pod, app, true);
                }
            }
            world.subsets(namespace, "web", None);
        }
        world.listed("shop", "listed", &[0, 1, 250]);
        world.subsets("shop", "db", Some("v1"));
        world.patched("bank", "web", 1);
        world
    }

    fn loaded(&self) -> Loaded {
        Loaded {
            objects: self.0.values().cloned().collect(),
            ..Loaded::default()
        }
    }

    fn first(&self, json: &Arc<Json>) -> Arc<Snapshot> {
        Snapshot::first(self.loaded(), Arc::default(), json.clone())
    }
}

fn ip(number: usize) -> String {
    format!("10.1.{}.{}", number >> 8, number & 255)
}

fn sidecar(pod: &str, namespace: &str, address: usize) -> Proxy {
    let id = format!(
        "sidecar~{}~{pod}.{namespace}~{namespace}.svc.cluster.local",
        ip(address)
    );
    Proxy::new(NodeId::parse(&id).expect("a node id"), BTreeMap::new())
}

fn versions(resources: &Resources) -> Vec<(&str, Vec<(String, String)>)> {
    let one = |type_url: &'static str| {
        let mut all: Vec<_> = resources
            .of(type_url)
            .iter()
            .map(|(n, r)| (n.to_string(), r.version.to_string()))
            .collect();
        all.sort();
        (type_url, all)
    };
    TYPES.map(one).to_vec()
}

#[test]
fn proxies_of_one_scope_share_what_they_are_sent() {
    let json = Arc::new(Json::new());
    let snapshot = World::start().first(&json);
    let [a, b, other] = [
        sidecar("web-0", "shop", 100),
        sidecar("web-2", "shop", 102),
        sidecar("web-0", "bank", 0),
    ]
    .map(|proxy| snapshot.generate(&proxy, None));
    assert!(Arc::ptr_eq(&a.shared, &b.shared));
    assert!(a.of(LISTENER).contains_key("virtualInbound"), "and each has its own");
    // Another namespace sees other routes, and the same endpoints.
    assert!(!Arc::ptr_eq(&a.shared, &other.shared));
    let name = "outbound|80||web.bank.svc.cluster.local";
    let [mine, its] = [&a, &other].map(|r| r.of(ENDPOINT).get(name).expect("endpoints").clone());
    assert!(Arc::ptr_eq(&mine.0, &its.0));
    // A rule asks for a label in which these two differ.
    let b = snapshot.generate(&sidecar("web-1", "shop", 101), None);
    assert!(!Arc::ptr_eq(&a.shared, &b.shared));
}

#[test]
fn zones_share_nothing_only_where_a_rule_asks_for_them() {
    let json = Arc::new(Json::new());
    let mut world = World::start();
    let both = |world: &World| {
        let snapshot = world.first(&json);
        // Neither has a Pod in the store: where they run, they say themselves.
        ["a/b", "a/c"].map(|locality| {
            let mut proxy = sidecar("none-0", "bank", 299);
            locality.clone_into(&mut proxy.locality);
            snapshot.generate(&proxy, None).shared
        })
    };
    let [b, c] = both(&world);
    assert!(Arc::ptr_eq(&b, &c));
    world.ejecting("shop", "web");
    let [b, c] = both(&world);
    assert!(!Arc::ptr_eq(&b, &c));
}

#[test]
fn workloads_with_other_sidecars_share_nothing_and_hear_of_changes() {
    let json = Arc::new(Json::new());
    let mut world = World::start();
    let proxies = || {
        [
            sidecar("web-0", "shop", 100),
            sidecar("db-0", "shop", 110),
            sidecar("web-0", "bank", 0),
        ]
    };
    let first = world.first(&json);
    let before = proxies().map(|proxy| first.generate(&proxy, None));
    world.limited("shop", Some("web"), 0);
    let second = first.next(world.loaded(), Arc::default());
    let mut now = before
        .iter()
        .zip(proxies())
        .map(|(before, proxy)| second.generate(&proxy, Some(before)));
    let now = [(); 3].map(|()| now.next().expect("one for each"));
    let cluster = "outbound|80||web.bank.svc.cluster.local";
    let knows = |resources: &Resources| resources.of(CLUSTER).contains_key(cluster);
    assert_eq!(now.each_ref().map(knows), [false, true, true]);
    assert_eq!(before.each_ref().map(knows), [true; 3]);
    let lost = before[0].differing(&now[0], CLUSTER);
    assert!(
        lost.iter().any(|name| &**name == cluster),
        "the proxy is told that it is gone"
    );
    // An endpoint of what it does not see any more is nothing to it.
    world.pod("bank", "web", 0, 77, "web", true);
    let third = second.next(world.loaded(), Arc::default());
    let [proxy, ..] = proxies();
    let after = third.generate(&proxy, Some(&now[0]));
    assert!(
        now[0]
            .differing(&after, ENDPOINT)
            .iter()
            .all(|name| !name.contains("bank"))
    );
    assert_eq!(versions(&after), versions(&world.first(&json).generate(&proxy, None)));
    // The inbound side follows too.
    let own = |resources: &Resources| resources.own.of(CLUSTER)["inbound|8080||"].version.clone();
    assert_ne!(own(&before[0]), own(&now[0]));
    assert_eq!(own(&before[1]), own(&now[1]));
}

#[test]
fn a_moved_endpoint_keeps_its_place_in_the_order() {
    let json = Arc::new(Json::new());
    for which in 0..4 {
        let mut world = World::start();
        world.near("bank", "web", which);
        let snapshot = world.first(&json);
        let proxies = [
            sidecar("web-0", "bank", 0),
            sidecar("web-1", "bank", 1),
            sidecar("db-0", "shop", 110),
        ];
        let before = proxies.each_ref().map(|proxy| snapshot.generate(proxy, None));
        world.pod("bank", "web", 3, 203, "web", true);
        let snapshot = snapshot.next(world.loaded(), Arc::default());
        let cold = world.first(&json);
        for (proxy, before) in proxies.iter().zip(&before) {
            let now = snapshot.generate(proxy, Some(before));
            assert_eq!(
                versions(&now),
                versions(&cold.generate(proxy, None)),
                "{which}, {}",
                proxy.id
            );
        }
    }
}

#[test]
fn a_moved_endpoint_costs_its_endpoints_only() {
    let json = Arc::new(Json::new());
    let mut world = World::start();
    let first = world.first(&json);
    let proxy = sidecar("db-0", "shop", 110);
    let before = first.generate(&proxy, None);
    world.pod("bank", "web", 0, 77, "web", true);
    let second = first.next(world.loaded(), Arc::default());
    let after = second.generate(&proxy, Some(&before));
    for type_url in TYPES {
        let same = std::ptr::eq(before.shared.of(type_url), after.shared.of(type_url));
        assert_eq!(same, type_url != ENDPOINT, "{type_url}");
        assert!(
            std::ptr::eq(before.own.of(type_url), after.own.of(type_url)),
            "{type_url}"
        );
    }
    let names: Vec<String> = before
        .differing(&after, ENDPOINT)
        .iter()
        .map(|n| n.to_string())
        .collect();
    let host = "web.bank.svc.cluster.local";
    assert_eq!(
        names,
        [
            format!("outbound|8080|v0|{host}"),
            format!("outbound|8080||{host}"),
            format!("outbound|80|v0|{host}"),
            // It lists the address that the Pod had: nobody is known there any more.
            "outbound|80||listed.shop.svc.cluster.local".to_owned(),
            format!("outbound|80||{host}")
        ]
    );

    // With another identity the cluster is another too: clients check it.
    world.pod("bank", "web", 0, 77, "other", true);
    let third = second.next(world.loaded(), Arc::default());
    let after = third.generate(&proxy, Some(&before));
    assert!(!before.differing(&after, CLUSTER).is_empty());
    assert!(std::ptr::eq(before.shared.of(ROUTE), after.shared.of(ROUTE)));
    assert_eq!(versions(&after), versions(&world.first(&json).generate(&proxy, None)));
}

/// A sequence of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % limit
    }
}

/// One change of one object or two.
fn change(world: &mut World, numbers: &mut Numbers) {
    let namespace = ["bank", "shop"][numbers.below(2)];
    let app = ["web", "db", "set"][numbers.below(3)];
    let pod = numbers.below(4);
    match numbers.below(17) {
        0..=3 => world.pod(namespace, app, pod, numbers.below(300), app, true),
        4 => world.pod(namespace, app, pod, numbers.below(300), "other", true),
        5 => world.pod(namespace, app, pod, numbers.below(300), app, false),
        6 => {
            world.0.remove(&format!("Pod {namespace}/{app}-{pod}"));
        }
        7 | 8 => world.listed("shop", "listed", &[numbers.below(300), numbers.below(300)]),
        9 => world.service(
            namespace,
            app,
            ["None", "10.96.0.7", ""][numbers.below(3)],
            ["http", "tcp"][numbers.below(2)],
        ),
        10 => world.subsets(namespace, app, [None, Some("v0")][numbers.below(2)]),
        11 => world.ejecting(namespace, app),
        12 => world.near(namespace, app, numbers.below(4)),
        13 => world.patched(namespace, app, 1 + numbers.below(3)),
        14 => world.limited(namespace, [None, Some(app)][numbers.below(2)], numbers.below(4)),
        15 => {
            world.0.remove(&format!("Sidecar {namespace}/{app}"));
        }
        _ => {
            let mode = ["DISABLE", "STRICT"][numbers.below(2)];
            world.put(
                json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                "metadata": {"name": app, "namespace": namespace},
                "spec": {"selector": {"matchLabels": {"app": app}}, "mtls": {"mode": mode}}}),
            );
        }
    }
}

#[test]
fn what_changes_step_by_step_ends_as_if_it_had_been_there_from_the_start() {
    let json = Arc::new(Json::new());
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let mut world = World::start();
    let mut snapshot = world.first(&json);
    let mut proxies: Vec<(Proxy, Option<Resources>)> = Vec::new();
    for (index, namespace) in ["bank", "shop"].into_iter().enumerate() {
        for (number, app) in ["web", "db", "set"].into_iter().enumerate() {
            for pod in 0..2 {
                let address = index * 100 + number * 10 + pod;
                proxies.push((sidecar(&format!("{app}-{pod}"), namespace, address), None));
            }
        }
    }
    for step in 0..150 {
        // Mostly Pods: a change of anything else ends what is taken over.
        change(&mut world, &mut numbers);
        snapshot = snapshot.next(world.loaded(), Arc::default());
        let cold = world.first(&json);
        for (proxy, before) in &mut proxies {
            // A proxy may miss some.
            if numbers.below(3) == 0 {
                continue;
            }
            let now = snapshot.generate(proxy, before.as_ref());
            let expected = cold.generate(proxy, None);
            assert_eq!(versions(&now), versions(&expected), "step {step}, {}", proxy.id);
            *before = Some(now);
        }
    }
}
