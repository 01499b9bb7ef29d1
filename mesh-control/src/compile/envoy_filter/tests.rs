use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::envoy::ProtoValue;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::pb::envoy::config::cluster::v3::Cluster;
use mesh_api::envoy::pb::google::protobuf::value::Kind;
use mesh_api::istio::{AnyObject, parse};
use mesh_api::names::NodeId;
use serde_json::{Value, json};

use super::super::{Compiled, Proxy, Scope, compile};
use super::place::place;
use crate::store::Store;
use mesh_api::istio::PatchOperation;

const CATALOG: &str = "outbound|80||catalog.shop.svc.cluster.local";

fn object(value: Value) -> Arc<AnyObject> {
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    Arc::new(parse(&api_version, &kind, value).expect("a readable object"))
}

/// An EnvoyFilter with one patch of the catalog's cluster.
#[allow(clippy::needless_pass_by_value, reason = "reads better at the callers")]
fn timeout(namespace: &str, name: &str, spec: Value, seconds: u32, matches: Value) -> Value {
    let mut spec = spec;
    spec["configPatches"] = json!([{"applyTo": "CLUSTER", "match": matches,
        "patch": {"operation": "MERGE", "value": {"connect_timeout": format!("{seconds}s")}}}]);
    json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn store(filters: impl IntoIterator<Item = Value>) -> Store {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "catalog", "namespace": "shop"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]}});
    Store::build([service].into_iter().chain(filters).map(object), Arc::default())
}

fn sidecar(labels: &[(&str, &str)], metadata: &[(&str, &str)]) -> Proxy {
    let id = NodeId::parse("sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local").expect("a node id");
    let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut proxy = Proxy::new(id, labels);
    for (key, value) in metadata {
        let kind = Some(Kind::StringValue((*value).to_owned()));
        proxy.metadata.fields.insert((*key).to_owned(), ProtoValue { kind });
    }
    proxy
}

fn catalog(compiled: &Compiled) -> Cluster {
    compiled.clusters[CATALOG].message().expect("a cluster")
}

fn seconds(compiled: &Compiled) -> i64 {
    catalog(compiled).connect_timeout.map_or(0, |d| d.seconds)
}

fn json_of(compiled: &Compiled) -> Value {
    crate::cli_compile::to_json(Json::shared(), compiled).expect("JSON")
}

#[test]
fn the_last_in_order_wins() {
    let any = || json!({});
    let spec = |priority: i32| json!({"priority": priority});
    let mut filters = vec![
        timeout("shop", "b", spec(0), 2, any()),
        timeout("shop", "a", spec(0), 1, any()),
    ];
    let web = sidecar(&[], &[]);
    let of = |filters: &[Value]| seconds(&compile(&store(filters.iter().cloned()), &web));
    assert_eq!(of(&filters), 2, "by name");
    filters[1]["metadata"]["creationTimestamp"] = json!("2024-01-02T00:00:00Z");
    filters[0]["metadata"]["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
    assert_eq!(of(&filters), 1, "by age");
    filters.push(timeout("shop", "c", spec(-5), 3, any()));
    assert_eq!(of(&filters), 1, "low priorities come first");
    filters.push(timeout("shop", "d", spec(5), 4, any()));
    assert_eq!(of(&filters), 4);
    filters.push(timeout("istio-system", "root", spec(99), 5, any()));
    assert_eq!(of(&filters), 4, "the root namespace's come before a workload's own");
    assert_eq!(of(&filters[4..]), 5);
    assert_eq!(
        of(&[timeout("bank", "x", spec(0), 6, any())]),
        10,
        "another namespace's"
    );
}

#[test]
fn selectors_versions_and_metadata_choose_proxies() {
    let spec = json!({"workloadSelector": {"labels": {"app": "web"}}});
    let by_label = store([timeout("shop", "a", spec, 1, json!({}))]);
    let (web, other) = (sidecar(&[("app", "web")], &[]), sidecar(&[("app", "x")], &[]));
    assert_eq!(seconds(&compile(&by_label, &web)), 1);
    assert_eq!(seconds(&compile(&by_label, &other)), 10);
    assert_ne!(
        Scope::of(&by_label, &web),
        Scope::of(&by_label, &other),
        "they share nothing"
    );

    let matches = json!({"proxy": {"proxyVersion": "^1\\.2[0-9]", "metadata": {"TEAM": "blue"}}});
    let by_metadata = store([timeout("shop", "a", json!({}), 1, matches)]);
    for (metadata, expected) in [
        (vec![("ISTIO_VERSION", "1.24.1"), ("TEAM", "blue")], 1),
        (vec![("ISTIO_VERSION", "1.19.0"), ("TEAM", "blue")], 10),
        (vec![("ISTIO_VERSION", "1.24.1"), ("TEAM", "red")], 10),
        (vec![("TEAM", "blue")], 10),
    ] {
        let proxy = sidecar(&[], &metadata);
        assert_eq!(seconds(&compile(&by_metadata, &proxy)), expected, "{metadata:?}");
    }
}

#[test]
fn contexts_are_kept_apart() {
    for (context, expected) in [
        ("SIDECAR_OUTBOUND", 1),
        ("ANY", 1),
        ("SIDECAR_INBOUND", 10),
        ("GATEWAY", 10),
    ] {
        let filter = timeout("shop", "a", json!({}), 1, json!({"context": context}));
        assert_eq!(
            seconds(&compile(&store([filter]), &sidecar(&[], &[]))),
            expected,
            "{context}"
        );
    }
    let filter = timeout("shop", "a", json!({}), 1, json!({"context": "WAYPOINT"}));
    let warnings = super::super::unsupported(&object(filter));
    assert_eq!(warnings[0].field, "spec.configPatches[0].match.context");
}

#[test]
fn what_mesh_proxy_lacks_reaches_envoys_only() {
    let mut filter = timeout("shop", "a", json!({}), 1, json!({}));
    filter["spec"]["configPatches"][0]["patch"]["value"]["preconnect_policy"] =
        json!({"predictive_preconnect_ratio": 2});
    let found = super::super::unsupported(&object(filter.clone()));
    let fields: Vec<&str> = found.iter().map(|w| w.field.as_str()).collect();
    assert_eq!(fields, ["spec.configPatches[0].patch.value.preconnect_policy"]);
    assert_eq!(found[0].object, "EnvoyFilter shop/a");
    let store = store([filter]);
    let mut proxy = sidecar(&[], &[]);
    assert_eq!(seconds(&compile(&store, &proxy)), 10);
    let ours = Scope::of(&store, &proxy);
    proxy.envoy = true;
    let compiled = compile(&store, &proxy);
    assert_eq!(seconds(&compiled), 1);
    assert!(catalog(&compiled).preconnect_policy.is_some());
    assert_ne!(Scope::of(&store, &proxy), ours);
}

#[test]
fn a_threshold_of_a_patch_goes_into_the_one_that_is_there() {
    let mut filter = timeout(
        "shop",
        "a",
        json!({}),
        1,
        json!({"cluster": {"service": "catalog.shop.svc.cluster.local"}}),
    );
    filter["spec"]["configPatches"][0]["patch"]["value"] = json!({"circuit_breakers": {"thresholds": [
        {"max_retries": 0, "max_requests": 3}, {"priority": "HIGH", "max_requests": 1}]}});
    let compiled = compile(&store([filter]), &sidecar(&[], &[]));
    let breakers = catalog(&compiled).circuit_breakers.expect("limits");
    let [default, high] = breakers.thresholds.as_slice() else {
        panic!("{breakers:?}")
    };
    assert_eq!(
        (
            default.max_retries.map(|n| n.value),
            default.max_requests.map(|n| n.value)
        ),
        (Some(0), Some(3))
    );
    assert!(default.max_connections.is_some(), "what was there stays");
    assert_eq!((high.priority, high.max_requests.map(|n| n.value)), (1, Some(1)));
}

#[test]
fn an_addition_never_takes_the_place_of_what_is_there() {
    let mut filter = timeout("shop", "a", json!({}), 1, json!({}));
    filter["spec"]["configPatches"][0]["patch"] =
        json!({"operation": "ADD", "value": {"name": CATALOG, "connect_timeout": "1s"}});
    let compiled = compile(&store([filter]), &sidecar(&[], &[]));
    assert_eq!(seconds(&compiled), 10);
    let said: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
    assert!(
        said.iter()
            .any(|w| w.starts_with("EnvoyFilter shop/a: spec.configPatches[0].patch.value: there is a cluster")),
        "{said:?}"
    );
}

#[test]
fn configurations_of_different_types_are_not_mixed() {
    let mut filter = timeout("shop", "a", json!({}), 1, json!({}));
    let cors = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors";
    filter["spec"]["configPatches"][0] = json!({"applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_OUTBOUND", "listener": {"filterChain": {"filter": {
            "name": "envoy.filters.network.http_connection_manager", "subFilter": {"name": "envoy.filters.http.fault"}}}}},
        "patch": {"operation": "MERGE", "value": {"typed_config": {"@type": cors}}}});
    let web = sidecar(&[], &[]);
    let patched = compile(&store([filter]), &web);
    assert_eq!(json_of(&patched), json_of(&compile(&store([]), &web)));
    let said: Vec<String> = patched.warnings.iter().map(ToString::to_string).collect();
    assert!(
        said.iter()
            .any(|w| w.contains("typed_config is not merged into envoy.filters.http.fault")),
        "{said:?}"
    );
}

#[test]
fn places_in_lists() {
    use PatchOperation::{Add, InsertAfter, InsertBefore, InsertFirst, Remove, Replace};
    let placed = |operation, wanted: Option<char>| {
        let mut list = vec!['a', 'b', 'c', 'b'];
        place(
            &mut list,
            operation,
            || Some('x'),
            wanted.is_some(),
            |c| wanted.is_none_or(|w| w == *c),
        );
        list.into_iter().collect::<String>()
    };
    for (operation, named, unnamed) in [
        (Add, "abcbx", "abcbx"),
        (InsertFirst, "xabcb", "xabcb"),
        (InsertBefore, "axbcb", "xabcb"),
        (InsertAfter, "abxcb", "abcbx"),
        (Replace, "axcb", "abcb"),
        (Remove, "ac", "abcb"),
    ] {
        assert_eq!(placed(operation, Some('b')), named, "{operation}");
        assert_eq!(placed(operation, None), unnamed, "{operation}");
    }
    // One that is not there is not inserted beside.
    for operation in [InsertBefore, InsertAfter, Replace, Remove] {
        assert_eq!(placed(operation, Some('z')), "abcb", "{operation}");
    }
}
