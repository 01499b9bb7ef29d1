//! Callers in different places, and what each is told of the same endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::istio::{AnyObject, parse};
use mesh_api::mesh_config::MeshConfig;
use mesh_api::names::NodeId;
use serde_json::{Value, json};

use super::super::{Proxy, compile};
use super::*;
use crate::store::Store;

const CLUSTER: &str = "outbound|80||backend.shop.svc.cluster.local";

fn object(value: Value) -> Arc<AnyObject> {
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    Arc::new(parse(&api_version, &kind, value).expect("a readable object"))
}

/// A backend with two endpoints in each of three zones, one in another region, and this policy.
fn store(policy: &Value, mesh: &str) -> Store {
    let mut objects = vec![
        object(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend", "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "backend"}, "ports": [{"name": "http", "port": 80}]}}),
        ),
        object(
            json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "backend", "namespace": "shop"},
            "spec": {"host": "backend", "trafficPolicy": policy}}),
        ),
    ];
    let places = ["r1.a", "r1.a", "r1.b", "r1.b", "r2.a", "r3.a"];
    for (number, place) in places.iter().enumerate() {
        objects.push(object(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("backend-{number}"), "namespace": "shop",
                "labels": {"app": "backend", "istio-locality": place, "version": format!("v{}", number % 2)}},
            "spec": {"containers": []}, "status": {"podIP": format!("10.1.0.{}", number + 1)}})));
    }
    Store::build(objects, Arc::new(MeshConfig::from_yaml(mesh).expect("readable")))
}

/// Localities with priority, weight and number of endpoints, as a caller sees them.
fn seen(store: &Store, caller: &str, labels: &[(&str, &str)]) -> Vec<(String, u32, u32, usize)> {
    let id = NodeId::parse("sidecar~10.2.0.1~web-1.shop~shop.svc.cluster.local").expect("a node id");
    let mut proxy = Proxy::new(
        id,
        labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    );
    caller.clone_into(&mut proxy.locality);
    let compiled = compile(store, &proxy);
    let assignment = compiled.endpoints[CLUSTER].message().expect("an assignment");
    let groups = assignment.endpoints.iter().map(|group| {
        let place = group.locality.as_ref().map(|l| format!("{}/{}", l.region, l.zone));
        let weight = group.load_balancing_weight.map_or(0, |w| w.value);
        (
            place.unwrap_or_default(),
            group.priority,
            weight,
            group.lb_endpoints.len(),
        )
    });
    groups.collect()
}

/// The priority of each locality.
fn priorities(store: &Store, caller: &str) -> Vec<(String, u32)> {
    let seen = seen(store, caller, &[]).into_iter();
    seen.map(|(place, priority, ..)| (place, priority)).collect()
}

fn pairs(list: &[(&str, u32)]) -> Vec<(String, u32)> {
    list.iter().map(|(place, n)| ((*place).to_owned(), *n)).collect()
}

fn ejecting(balancer: &Value) -> Value {
    json!({"outlierDetection": {"interval": "5s"}, "loadBalancer": {"simple": "ROUND_ROBIN", "localityLbSetting": balancer}})
}

#[test]
fn each_caller_has_its_own_zone_first() {
    let store = store(&json!({"outlierDetection": {"interval": "5s"}}), "{}");
    let near = pairs(&[("r1/a", 0), ("r1/b", 1), ("r2/a", 2), ("r3/a", 2)]);
    assert_eq!(priorities(&store, "r1/a"), near);
    let other = pairs(&[("r1/b", 0), ("r1/a", 1), ("r2/a", 2), ("r3/a", 2)]);
    assert_eq!(priorities(&store, "r1/b"), other);
    let far = pairs(&[("r2/a", 0), ("r1/a", 1), ("r1/b", 1), ("r3/a", 1)]);
    assert_eq!(priorities(&store, "r2/a"), far);
    let nowhere = pairs(&[("r1/a", 0), ("r1/b", 0), ("r2/a", 0), ("r3/a", 0)]);
    assert_eq!(priorities(&store, ""), nowhere);
    assert_eq!(priorities(&store, "elsewhere"), nowhere);
}

#[test]
fn priorities_need_ejection_and_can_be_switched_off() {
    let flat = pairs(&[("r1/a", 0), ("r1/b", 0), ("r2/a", 0), ("r3/a", 0)]);
    let plain = json!({"loadBalancer": {"simple": "RANDOM"}});
    assert_eq!(priorities(&store(&plain, "{}"), "r1/b"), flat);
    let off = ejecting(&json!({"enabled": false}));
    assert_eq!(priorities(&store(&off, "{}"), "r1/b"), flat);
    let outlier = json!({"outlierDetection": {"interval": "5s"}});
    let by_mesh = store(&outlier, "localityLbSetting: {enabled: false}");
    assert_eq!(priorities(&by_mesh, "r1/b"), flat);
    let on = ejecting(&json!({"enabled": true}));
    assert_ne!(
        priorities(&store(&on, "localityLbSetting: {enabled: false}"), "r1/b"),
        flat
    );
}

#[test]
fn a_listed_region_stands_in_before_others() {
    let store = store(&ejecting(&json!({"failover": [{"from": "r1", "to": "r3"}]})), "{}");
    let expected = pairs(&[("r1/a", 0), ("r1/b", 1), ("r3/a", 2), ("r2/a", 3)]);
    assert_eq!(priorities(&store, "r1/a"), expected);
}

#[test]
fn endpoints_that_share_labels_come_first() {
    let keys = json!({"failoverPriority": ["version", "topology.kubernetes.io/region"]});
    let store = store(&ejecting(&keys), "{}");
    let v1 = seen(&store, "r1/a", &[("version", "v1")]);
    let expected = [
        // The same version and region, then the same version only, then the rest.
        ("r1/a", 0, 1, 1),
        ("r1/b", 0, 1, 1),
        ("r3/a", 1, 1, 1),
        ("r1/a", 2, 1, 1),
        ("r1/b", 2, 1, 1),
        ("r2/a", 2, 1, 1),
    ];
    let expected: Vec<_> = expected.map(|(p, a, b, c)| (p.to_owned(), a, b, c)).into();
    assert_eq!(v1, expected);
    let given = json!({"failoverPriority": ["version=v0"]});
    let groups = seen(&self::store(&ejecting(&given), "{}"), "r1/a", &[("version", "v1")]);
    assert_eq!(groups[0], ("r1/a".to_owned(), 0, 1, 1));
    assert_eq!(groups.iter().filter(|g| g.1 == 0).map(|g| g.3).sum::<usize>(), 3);
}

#[test]
fn shares_are_those_of_the_entry_for_the_caller() {
    let shares = json!({"loadBalancer": {"localityLbSetting": {"distribute": [
        {"from": "r1/a/*", "to": {"r1/a/*": 70, "r1/b/*": 30}},
        {"from": "r2/*", "to": {"r1/*": 50, "*": 50}},
    ]}}});
    let store = store(&shares, "{}");
    let weights = |caller: &str| -> Vec<(String, u32)> {
        let seen = seen(&store, caller, &[]).into_iter();
        seen.map(|(place, priority, weight, _)| {
            assert_eq!(priority, 0);
            (place, weight)
        })
        .collect()
    };
    // What is not named gets nothing.
    assert_eq!(weights("r1/a"), pairs(&[("r1/a", 70), ("r1/b", 30)]));
    // Inside one pattern the endpoints' weights share; the most exact pattern counts.
    let four = pairs(&[("r1/a", 25), ("r1/b", 25), ("r2/a", 25), ("r3/a", 25)]);
    assert_eq!(weights("r2/a"), four);
    // Nobody spoke for these callers.
    let plain = pairs(&[("r1/a", 2), ("r1/b", 2), ("r2/a", 1), ("r3/a", 1)]);
    assert_eq!(weights("r3/a"), plain);
    assert_eq!(weights(""), plain);
}

#[test]
fn places_are_ranked_from_the_outside_in() {
    let to = |to: &str| distance("r1/z1/s1", to, &[]);
    assert_eq!(
        ["r1/z1/s1", "r1/z1/s2", "r1/z1", "r1/z2/s1", "r2/z1/s1", ""].map(to),
        [0, 1, 1, 2, 3, 3]
    );
    let failover = [("r1", "r3"), ("r2", "r1")].map(|(from, to)| LocalityFailover {
        from: from.to_owned(),
        to: to.to_owned(),
    });
    let to = |to: &str| distance("r1/z1/s1", to, &failover);
    assert_eq!(["r3/a", "r2/z1/s1", "r1/z2"].map(to), [3, 4, 2]);
}

#[test]
fn patterns_leave_free_what_they_do_not_say() {
    for (pattern, locality, inside) in [
        ("*", "r/z/s", true),
        ("r/*", "r/z/s", true),
        ("r", "r/z/s", true),
        ("r/z", "r/z", true),
        ("r/z/*", "r/z", true),
        ("r/z", "r/zz", false),
        ("r/*/s", "r/z/t", false),
        ("r/z", "", false),
    ] {
        assert_eq!(covers(pattern, locality), inside, "{pattern} {locality}");
    }
}
