//! `/debug/config_dump` and `/debug/ndsz`: what a proxy should hold.

use mesh_api::envoy::json::Json;
use mesh_api::envoy::type_url;
use mesh_api::nds::NameTable;
use mesh_api::nds::name_table::NameInfo;
use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::serve::ads::hub::Connection;
use crate::serve::ads::resources::Resource;

const ADMIN: &str = "type.googleapis.com/envoy.admin.v3.";
/// `[redacted]` in base64, as Envoy writes it in place of keys.
const REDACTED: &str = "W3JlZGFjdGVkXQ==";

/// Where the resources of a type stand in Envoy's dumps: section, list, field of the message.
const SECTIONS: [(&str, &str, &str, &str); 5] = [
    (
        type_url::CLUSTER,
        "ClustersConfigDump",
        "dynamic_active_clusters",
        "cluster",
    ),
    (
        type_url::ENDPOINT,
        "EndpointsConfigDump",
        "dynamic_endpoint_configs",
        "endpoint_config",
    ),
    (
        type_url::LISTENER,
        "ListenersConfigDump",
        "dynamic_listeners",
        "listener",
    ),
    (
        type_url::ROUTE,
        "RoutesConfigDump",
        "dynamic_route_configs",
        "route_config",
    ),
    (
        type_url::SECRET,
        "SecretsConfigDump",
        "dynamic_active_secrets",
        "secret",
    ),
];

/// `envoy.admin.v3.ConfigDump` of everything that the proxy should hold.
pub(super) fn page(json: &Json, connection: &Connection) -> Value {
    let resources = connection.status.lock().resources.clone();
    let section = |(type_url, section, list, field): (&'static str, &str, &str, &str)| {
        let all = resources.of(type_url);
        let elements: Vec<Value> = all
            .iter()
            .map(|(name, resource)| element(json, type_url, field, name, resource))
            .collect();
        let mut out = Map::new();
        out.insert("@type".to_owned(), json!(format!("{ADMIN}{section}")));
        if !elements.is_empty() {
            out.insert(list.to_owned(), Value::Array(elements));
        }
        Value::Object(out)
    };
    json!({"configs": SECTIONS.map(section)})
}

fn element(json: &Json, type_url: &str, field: &str, name: &str, resource: &Resource) -> Value {
    let mut message = match json.bytes_to_value(type_url, &resource.body.value) {
        Ok(value) => value,
        Err(error) => json!({"name": name, "error": error.to_string()}),
    };
    if type_url == type_url::SECRET {
        message = without_keys(name, &message);
    }
    let mut typed = Map::new();
    typed.insert("@type".to_owned(), json!(type_url));
    if let Value::Object(fields) = message {
        typed.extend(fields);
    }
    let state = json!({"version_info": &*resource.version, field: typed});
    match type_url {
        type_url::LISTENER => json!({"name": name, "active_state": state}),
        type_url::SECRET => json!({"name": name, "version_info": &*resource.version, field: state[field]}),
        _ => state,
    }
}

/// Of a secret what anybody may see.
fn without_keys(name: &str, secret: &Value) -> Value {
    let mut out = json!({"name": name});
    let validation = &secret["validation_context"];
    if validation.is_object() {
        out["validation_context"] = validation.clone();
    }
    let certificate = &secret["tls_certificate"];
    if certificate.is_object() {
        out["tls_certificate"] = json!({
            "certificate_chain": certificate["certificate_chain"],
            "private_key": {"inline_bytes": REDACTED},
        });
    }
    out
}

/// Hosts with their addresses, as the DNS server of the proxy has them.
pub(super) fn names(connection: &Connection) -> Value {
    let resources = connection.status.lock().resources.clone();
    let tables = resources.of(type_url::NAME_TABLE);
    let tables = tables
        .iter()
        .map(|(_, resource)| NameTable::decode(&*resource.body.value).unwrap_or_default());
    let one = |(host, info): (String, NameInfo)| {
        (
            host,
            json!({"ips": info.ips, "registry": info.registry, "namespace": info.namespace}),
        )
    };
    let mut all: Vec<(String, Value)> = tables.flat_map(|table| table.table).map(one).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    json!({"table": Map::from_iter(all)})
}
