use serde_json::json;

use super::*;
use crate::envoy::pb::envoy::config::cluster::v3::Cluster;
use crate::envoy::pb::envoy::config::route::v3::Route;
use crate::envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

const ROUTE: &str = "envoy.config.route.v3.Route";

/// What a patch makes of a message, as JSON.
fn merged<M: Message + Name + Default>(target: JsonValue, patch: JsonValue, lists: Lists) -> JsonValue {
    let json = Json::new();
    let mut message: M = json.from_value(target).expect("the target");
    let patch = read(&json, &M::full_name(), patch).expect("the patch");
    merge_into(&mut message, &patch, lists).expect("merges");
    json.to_value(&message).expect("JSON")
}

#[test]
fn scalars_replace_messages_merge_and_lists_are_appended() {
    let target = json!({"name": "a", "match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "5s",
        "retry_policy": {"retry_on": "5xx", "num_retries": 2, "retriable_status_codes": [503]}}});
    let patch = json!({"name": "b", "route": {"retryPolicy": {"retriable_status_codes": [408, 400],
        "retry_back_off": {"base_interval": "50ms"}}}});
    let policy = |codes: JsonValue| json!({"retry_on": "5xx", "num_retries": 2, "retriable_status_codes": codes, "retry_back_off": {"base_interval": "0.050s"}});
    for (lists, codes) in [
        (Lists::Append, json!([503, 408, 400])),
        (Lists::Replace, json!([408, 400])),
    ] {
        let expected = json!({"name": "b", "match": {"prefix": "/"},
            "route": {"cluster": "c", "timeout": "5s", "retry_policy": policy(codes)}});
        assert_eq!(merged::<Route>(target.clone(), patch.clone(), lists), expected);
    }
}

#[test]
fn a_member_of_a_oneof_displaces_the_others() {
    let target = json!({"match": {"prefix": "/"}, "redirect": {"host_redirect": "x"}});
    let patch = json!({"match": {"path": "/a"}, "direct_response": {"status": 404}});
    let expected = json!({"match": {"path": "/a"}, "direct_response": {"status": 404}});
    assert_eq!(merged::<Route>(target, patch, Lists::Append), expected);
    // The same member merges.
    let target = json!({"match": {"prefix": "/"}, "redirect": {"host_redirect": "x", "https_redirect": true}});
    let patch = json!({"redirect": {"host_redirect": "y"}});
    let expected = json!({"match": {"prefix": "/"}, "redirect": {"host_redirect": "y", "https_redirect": true}});
    assert_eq!(merged::<Route>(target, patch, Lists::Append), expected);
}

#[test]
fn durations_and_wrappers_are_values() {
    let target = json!({"connect_timeout": "10s", "circuit_breakers": {"thresholds": [{"max_retries": 3}]}});
    let patch = json!({"connect_timeout": "250ms"});
    let found = merged::<Cluster>(target, patch, Lists::Append);
    assert_eq!(found["connect_timeout"], "0.250s", "and not 10.250s");
    let found = merged::<HttpConnectionManager>(
        json!({"use_remote_address": true}),
        json!({"use_remote_address": false}),
        Lists::Append,
    );
    assert_eq!(found["use_remote_address"], false);
}

#[test]
fn maps_take_the_entries_of_the_patch() {
    let entry = |value: &str| json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value});
    let target = json!({"match": {"prefix": "/"}, "typed_per_filter_config": {"a": entry("1"), "b": entry("1")}});
    let patch = json!({"typed_per_filter_config": {"b": entry("2"), "c": entry("2")}});
    let found = merged::<Route>(target, patch, Lists::Append);
    assert_eq!(
        found["typed_per_filter_config"],
        json!({"a": entry("1"), "b": entry("2"), "c": entry("2")})
    );
}

fn any(json: &Json, value: JsonValue) -> Any {
    let message = read(json, "google.protobuf.Any", value).expect("an Any");
    message.transcode_to().expect("an Any")
}

#[test]
fn what_is_inside_of_any_is_merged() {
    let json = Json::new();
    let fault = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let start = any(
        &json,
        json!({"@type": fault, "upstream_cluster": "a", "headers": [{"name": "x"}]}),
    );
    let patches = [
        json!({"@type": fault, "upstream_cluster": "b", "headers": [{"name": "y"}]}),
        json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": fault,
            "value": {"upstream_cluster": "b", "headers": [{"name": "y"}]}}),
    ];
    for patch in patches {
        let mut target = start.clone();
        merge_any(&json, &mut target, &any(&json, patch), Lists::Append).expect("merges");
        let expected = json!({"@type": fault, "upstream_cluster": "b", "headers": [{"name": "x"}, {"name": "y"}]});
        assert_eq!(json.to_value(&target).expect("JSON"), expected);
    }
    // A type that nobody knows stays in its envelope.
    let unknown =
        json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "a/made.up", "value": {"x": 1}});
    let kept = json.to_value(&any(&json, unknown.clone())).expect("JSON");
    assert_eq!(kept["type_url"], unknown["type_url"]);

    let mut target = start.clone();
    let other = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"});
    let error = merge_any(&json, &mut target, &any(&json, other), Lists::Append).expect_err("another type");
    assert!(error.to_string().contains("cors.v3.Cors"), "{error}");
    assert_eq!(target, start);
}

#[test]
fn durations_are_read_in_both_ways_and_inside_of_any() {
    let json = Json::new();
    for text in ["50ms", "0.05s", "0.050s"] {
        let value = json!({"match": {"prefix": "/"}, "route": {"timeout": text}});
        let message = read(&json, ROUTE, value).expect(text);
        assert_eq!(
            json.dynamic_to_value(&message).expect("JSON")["route"]["timeout"],
            "0.050s"
        );
    }
    let value = json!({"name": "f", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay": {"fixed_delay": "1m"}}});
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
    let message = read(&json, kind, value).expect("reads");
    let value = json.dynamic_to_value(&message).expect("JSON");
    assert_eq!(value["typed_config"]["delay"]["fixed_delay"], "60s");
    assert!(read(&json, ROUTE, json!({"route": {"timeout": "soon"}})).is_err());
    assert!(read(&json, ROUTE, json!({"nothing": 1})).is_err());
}
