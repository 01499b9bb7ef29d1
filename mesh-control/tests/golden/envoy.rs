//! A bootstrap that gives a real Envoy the compiled resources from files, and `envoy --mode validate` on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use mesh_api::envoy::json::Json;
use mesh_api::envoy::type_url;
use serde_json::{Value, json};

use super::Case;

/// Who is asked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reader {
    /// Needs the clusters and files that sources of secrets name.
    Envoy,
    /// Has its agent in itself, and takes secrets from the control plane in any case.
    MeshProxy,
}

/// Has a proxy check a case.
///
/// # Errors
/// What it says.
pub(crate) fn validate(program: &Path, reader: Reader, case: &Case) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder for Envoy's files");
    let bootstrap = bootstrap(case, reader, folder.path());
    let path = folder.path().join("bootstrap.json");
    fs::write(&path, serde_json::to_vec_pretty(&bootstrap).expect("JSON")).expect("write the bootstrap");
    let output = Command::new(program)
        .args(["--mode", "validate", "-l", "warning", "-c"])
        .arg(&path)
        .output()
        .expect("run the proxy");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout))
}

/// Everything stands in the bootstrap, so that Envoy checks all of it: routes inside the listeners, endpoints inside the clusters.
fn bootstrap(case: &Case, reader: Reader, folder: &Path) -> Value {
    let compiled = case.compiled();
    let json = Json::new();
    let mut all = mesh_control::cli_compile::to_json(&json, &compiled).expect("JSON");
    let (routes, endpoints) = (by(&all["routes"], "name"), by(&all["endpoints"], "cluster_name"));
    let resources: Vec<Value> = compiled
        .secrets
        .values()
        .map(|s| {
            typed(
                type_url::SECRET,
                &json.bytes_to_value(type_url::SECRET, s.bytes()).expect("JSON"),
            )
        })
        .collect();
    let path = folder.join("secrets.json");
    let response = json!({"version_info": "1", "resources": resources});
    fs::write(&path, response.to_string()).expect("write the secrets");
    let secrets = json!({"path_config_source": {"path": path.display().to_string()}, "resource_api_version": "V3"});

    for part in ["listeners", "clusters"] {
        each_object(&mut all[part], &mut |object| {
            if let Some(source) = object.get_mut("sds_config").filter(|s| s.get("ads").is_some())
                && reader == Reader::Envoy
            {
                *source = secrets.clone();
            }
            if let Some(rds) = object.remove("rds") {
                let name = rds["route_config_name"].as_str().unwrap_or_default();
                let table = routes.get(name).unwrap_or_else(|| panic!("no route table {name}"));
                object.insert("route_config".to_owned(), table.clone());
            }
            if object.remove("eds_cluster_config").is_some() {
                let name = object["name"].as_str().unwrap_or_default().to_owned();
                let assignment = endpoints.get(&name).unwrap_or_else(|| panic!("no endpoints {name}"));
                object.insert("type".to_owned(), json!("STATIC"));
                object.insert("load_assignment".to_owned(), assignment.clone());
            }
        });
    }
    let mut clusters = all["clusters"].as_array().cloned().unwrap_or_default();
    let agent = json!({
        "name": "sds-grpc", "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}},
        "load_assignment": {"cluster_name": "sds-grpc", "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"pipe": {"path": folder.join("sds").display().to_string()}}}}]}]},
    });
    if reader == Reader::Envoy {
        clusters.push(agent);
    }
    json!({
        "node": {"id": case.proxy.id.to_string(), "cluster": "golden"},
        "static_resources": {"listeners": all["listeners"], "clusters": clusters},
    })
}

fn typed(type_url: &str, resource: &Value) -> Value {
    let mut out = json!({"@type": type_url});
    if let (Some(out), Some(fields)) = (out.as_object_mut(), resource.as_object()) {
        out.extend(fields.clone());
    }
    out
}

/// Resources by name.
fn by(resources: &Value, key: &str) -> BTreeMap<String, Value> {
    let resources = resources.as_array().into_iter().flatten();
    resources
        .map(|r| (r[key].as_str().unwrap_or_default().to_owned(), r.clone()))
        .collect()
}

fn each_object(value: &mut Value, change: &mut dyn FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object.values_mut().for_each(|v| each_object(v, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| each_object(v, change)),
        _ => {}
    }
}
