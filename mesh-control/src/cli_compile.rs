//! `mesh-control compile`: what a proxy would be sent, without sockets.

use std::collections::BTreeMap;

use mesh_api::envoy::json::{Json, JsonError};
use prost::Name;
use serde_json::{Map, Value};

use crate::compile::{Compiled, Encoded, Proxy, Warning, compile, unsupported, unsupported_mesh};
use crate::store::Store;

/// The resources of a proxy as proto3 JSON, under the keys `listeners`, `routes`, `clusters` and `endpoints`: arrays in the
/// order of the resources' names. The same bytes for the same input.
///
/// # Errors
/// When a resource cannot be written as JSON, which would be a fault of this program.
pub fn to_json(json: &Json, compiled: &Compiled) -> Result<Value, JsonError> {
    let mut out = Map::new();
    out.insert("listeners".to_owned(), array(json, &compiled.listeners)?);
    out.insert("routes".to_owned(), array(json, &compiled.routes)?);
    out.insert("clusters".to_owned(), array(json, &compiled.clusters)?);
    out.insert("endpoints".to_owned(), array(json, &compiled.endpoints)?);
    Ok(Value::Object(out))
}

fn array<M: Name>(json: &Json, messages: &BTreeMap<String, Encoded<M>>) -> Result<Value, JsonError> {
    messages
        .values()
        .map(|m| json.bytes_to_value(&M::full_name(), m.bytes()))
        .collect::<Result<Vec<_>, _>>()
        .map(Value::Array)
}

/// Everything that is said and not in force: of each object by itself, and for this proxy.
pub fn warnings(store: &Store, compiled: &Compiled) -> Vec<Warning> {
    let mut all: Vec<Warning> = store.objects().iter().flat_map(|o| unsupported(o)).collect();
    all.extend(unsupported_mesh(store.mesh()));
    all.extend(compiled.warnings.iter().cloned());
    all.sort();
    all.dedup();
    all
}

/// Compiles for one proxy and writes the answer as text. The second part are the warnings, for stderr.
///
/// # Errors
/// As [`to_json`], and when the answer cannot be written as YAML.
pub fn run(store: &Store, proxy: &Proxy, yaml: bool) -> anyhow::Result<(String, Vec<Warning>)> {
    let compiled = compile(store, proxy);
    let value = to_json(&Json::new(), &compiled)?;
    let text = if yaml {
        serde_saphyr::to_string(&value)?
    } else {
        let mut text = serde_json::to_string_pretty(&value)?;
        text.push('\n');
        text
    };
    Ok((text, warnings(store, &compiled)))
}
