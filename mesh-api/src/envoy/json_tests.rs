use serde_json::json;

use super::*;
use crate::envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use crate::envoy::pb::envoy::config::core::v3::Metadata;

#[test]
fn a_bootstrap_with_a_typed_any_goes_both_ways() {
    let text = json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}},
        "static_resources": {"listeners": [{
            "name": "demo",
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.tcp_proxy",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "demo",
                    "cluster": "there",
                    "idle_timeout": "5s"
                }
            }]}]
        }]}
    });
    let json = Json::new();
    let bootstrap: Bootstrap = json.from_value(text.clone()).expect("an ordinary bootstrap");
    assert_eq!(json.to_value(&bootstrap).expect("writes"), text);
}

#[test]
fn unknown_fields_are_refused_by_name() {
    let error = Json::new()
        .from_value::<Bootstrap>(json!({"static_resources": {"listners": []}}))
        .expect_err("there is no such field");
    assert!(error.to_string().contains("listners"), "{error}");
}

#[test]
fn map_keys_come_out_sorted() {
    let json = Json::new();
    let keys = ["z", "a", "m", "istio", "b"];
    let text: Value = keys
        .iter()
        .map(|k| ((*k).to_owned(), json!({"k2": 1.0, "k1": "x"})))
        .collect();
    let metadata: Metadata = json.from_value(json!({"filter_metadata": text})).expect("metadata");
    let out = json.to_value(&metadata).expect("writes").to_string();
    let positions: Vec<_> = ["\"a\"", "\"b\"", "\"istio\"", "\"m\"", "\"z\""]
        .iter()
        .map(|k| out.find(k))
        .collect();
    assert!(positions.is_sorted() && positions.iter().all(Option::is_some), "{out}");
    assert!(out.find("k1") < out.find("k2"), "{out}");
}
