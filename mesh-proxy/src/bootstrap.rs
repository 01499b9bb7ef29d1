//! Bootstrap files: Envoy's v3 `Bootstrap`, as YAML or JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::google::protobuf::value::Kind;
use mesh_api::envoy::{Struct, type_url};
use mesh_api::names::label;
use prost::Message;

use crate::shared::{Node, Workload};
use crate::snapshot::build::{Builder, Incoming, Invalid, Update, check};
use crate::snapshot::resources::Source;

/// Of the thread that reads a bootstrap: as much as the main thread has.
const STACK: usize = 8 << 20;

/// Reads a file.
///
/// # Errors
/// When it cannot be read, is no YAML, or is no bootstrap; the message names file and field.
pub fn read(path: &Path) -> anyhow::Result<Bootstrap> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is no Envoy bootstrap", path.display()))
}

/// Parses the text of a bootstrap, YAML or JSON (which is YAML too).
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str) -> anyhow::Result<Bootstrap> {
    // On a thread of its own, so that the memory of the YAML and of the descriptors goes back to the system with it: what is
    // allocated beside them and lives on would keep their pages.
    let bytes = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK);
        let reader = reader.spawn_scoped(scope, || encoded(text))?;
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("the reader of bootstraps ended early"))?
    })?;
    Ok(Bootstrap::decode(bytes.as_slice())?)
}

/// The text as an encoded message.
fn encoded(text: &str) -> anyhow::Result<Vec<u8>> {
    // The file is the operator's own, and one with thousands of clusters passes the reader's limits for strangers' input.
    let value: serde_json::Value =
        serde_saphyr::from_str_with_options(text, serde_saphyr::options! { budget: None }).context("malformed YAML")?;
    anyhow::ensure!(value.is_object(), "expected fields such as static_resources at the top");
    let bootstrap = Json::new().from_value::<Bootstrap>(value)?;
    Ok(bootstrap.encode_to_vec())
}

/// Checks what the bootstrap says beside its static resources; those are checked by [`load_static`].
pub fn check_outline(bootstrap: &mut Bootstrap) -> Vec<Invalid> {
    let resources = bootstrap.static_resources.take();
    let mut out = check("envoy.config.bootstrap.v3.Bootstrap", &bootstrap.encode_to_vec());
    bootstrap.static_resources = resources;
    if let Some(address) = bootstrap.admin.as_ref().and_then(|a| a.address.as_ref())
        && socket_address(address).is_none()
    {
        out.push(Invalid {
            path: "admin.address".to_owned(),
            message: "only an IP address with a port is implemented".to_owned(),
        });
    }
    out
}

/// A name with the message of that name.
type Encoded = (String, Vec<u8>);

/// Takes the static resources out of the bootstrap, hands them to the builder, and publishes nothing. Gives all refusals, with
/// paths from the bootstrap's top.
pub fn load_static(
    bootstrap: &mut Bootstrap,
    builder: &mut Builder,
) -> (Option<crate::snapshot::Snapshot>, Vec<Invalid>) {
    let Some(resources) = bootstrap.static_resources.take() else {
        return (None, Vec::new());
    };
    let secrets = resources.secrets.into_iter().map(|s| {
        let bytes = s.encode_to_vec();
        (s.name, bytes)
    });
    let clusters = resources.clusters.into_iter().map(|c| {
        let bytes = c.encode_to_vec();
        (c.name, bytes)
    });
    let listeners = resources
        .listeners
        .into_iter()
        .map(|l| (listener_name(&l), l.encode_to_vec()));
    let mut snapshot = None;
    let mut refused = Vec::new();
    let groups: [(&str, &str, Vec<Encoded>); 3] = [
        (type_url::SECRET, "secrets", secrets.collect()),
        (type_url::CLUSTER, "clusters", clusters.collect()),
        (type_url::LISTENER, "listeners", listeners.collect()),
    ];
    for (type_url, field, items) in groups {
        let mut places = BTreeMap::new();
        let mut update = Update {
            type_url: type_url.to_owned(),
            ..Update::default()
        };
        for (i, (name, bytes)) in items.into_iter().enumerate() {
            if let Some(first) = places.get(&name) {
                refused.push(Invalid {
                    path: format!("static_resources.{field}[{i}]"),
                    message: format!("{name:?} is the name of {field}[{first}] already"),
                });
                continue;
            }
            places.insert(name.clone(), i);
            let version = String::new();
            update.set.push(Incoming { name, version, bytes });
        }
        // All at once: each update makes a whole snapshot.
        let applied = builder.apply(update, Source::Static);
        snapshot = applied.snapshot.or(snapshot);
        refused.extend(applied.rejected.into_iter().map(|r| {
            let i = places.get(&r.name).copied().unwrap_or_default();
            let mut path = format!("static_resources.{field}[{i}]");
            if !r.path.is_empty() {
                path = format!("{path}.{}", r.path);
            }
            let message = r.message;
            Invalid { path, message }
        }));
    }
    (snapshot, refused)
}

/// As the builder names it: a listener without a name goes by its address.
fn listener_name(listener: &mesh_api::envoy::pb::envoy::config::listener::v3::Listener) -> String {
    if !listener.name.is_empty() {
        return listener.name.clone();
    }
    let address = listener.address.as_ref().and_then(socket_address);
    address.map(|a| a.to_string()).unwrap_or_default()
}

/// An address with an IP, else `None`.
pub fn socket_address(address: &core::Address) -> Option<SocketAddr> {
    use core::socket_address::PortSpecifier;
    let Some(core::address::Address::SocketAddress(socket)) = &address.address else {
        return None;
    };
    let port = match socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(port).ok()?,
        None => 0,
        Some(PortSpecifier::NamedPort(_)) => return None,
    };
    Some(SocketAddr::new(socket.address.parse().ok()?, port))
}

/// Who we are, from `node`.
pub fn node(bootstrap: &Bootstrap) -> Node {
    let Some(node) = &bootstrap.node else {
        return Node::default();
    };
    Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        workload: node.metadata.as_ref().and_then(workload),
        ..Node::default()
    }
}

/// Istio's view of the workload, from the metadata of a node; `None` when there is nothing of Istio's in it.
pub fn workload(metadata: &Struct) -> Option<Workload> {
    let text = |fields: &Struct, key: &str| match fields.fields.get(key).and_then(|v| v.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    };
    let name = text(metadata, "WORKLOAD_NAME");
    let namespace = text(metadata, "NAMESPACE");
    if name.is_empty() && namespace.is_empty() {
        return None;
    }
    let labels: BTreeMap<String, String> = match metadata.fields.get("LABELS").and_then(|v| v.kind.as_ref()) {
        Some(Kind::StructValue(all)) => all.fields.keys().map(|key| (key.clone(), text(all, key))).collect(),
        _ => BTreeMap::new(),
    };
    let first = |keys: &[&str], default: &str| {
        keys.iter()
            .find_map(|k| labels.get(*k).filter(|v| !v.is_empty()))
            .map_or_else(|| default.to_owned(), Clone::clone)
    };
    Some(Workload {
        canonical_name: first(&[label::CANONICAL_NAME, "app.kubernetes.io/name", "app"], &name),
        canonical_revision: first(
            &[label::CANONICAL_REVISION, "app.kubernetes.io/version", "version"],
            "latest",
        ),
        app: first(&["app"], ""),
        version: first(&["version"], ""),
        cluster_id: text(metadata, "CLUSTER_ID"),
        owner: text(metadata, "OWNER"),
        name,
        namespace,
        labels,
    })
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
