//! Conversions and the builder.

mod balancing;
mod following;
mod istio;
mod refusals;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mesh_api::envoy::json::Json;
use mesh_api::envoy::type_url;
use prost::Message;

use super::{Applied, Builder, Incoming, Update};
use crate::shared::{Node, Shared};
use crate::snapshot::Snapshot;
use crate::snapshot::resources::Source;

static JSON: LazyLock<Json> = LazyLock::new(Json::new);

fn builder() -> Builder {
    Builder::new(Shared::new(Node::default()))
}

/// A builder that waits for nothing.
fn impatient() -> Builder {
    builder().with_patience(Duration::ZERO)
}

/// The bytes of a message that is written as YAML.
fn bytes(type_url: &str, yaml: &str) -> Vec<u8> {
    let name = type_url.rsplit('/').next().expect("a type URL");
    let value: serde_json::Value = serde_saphyr::from_str(yaml).expect("YAML");
    let message = JSON.dynamic_from_value(name, value).expect("fields of this message");
    message.encode_to_vec()
}

fn update(type_url: &str, resources: &[(&str, &str)]) -> Update {
    Update {
        type_url: type_url.to_owned(),
        set: resources
            .iter()
            .map(|(name, yaml)| Incoming {
                name: (*name).to_owned(),
                version: "1".to_owned(),
                bytes: bytes(type_url, yaml),
            })
            .collect(),
        ..Update::default()
    }
}

fn apply(builder: &mut Builder, type_url: &str, resources: &[(&str, &str)]) -> Applied {
    builder.apply(update(type_url, resources), Source::Dynamic)
}

/// Applies what must be accepted and change something.
fn accept(builder: &mut Builder, type_url: &str, resources: &[(&str, &str)]) -> Snapshot {
    let applied = apply(builder, type_url, resources);
    assert_eq!(applied.rejected, []);
    applied.snapshot.expect("something changed")
}

/// `path: message` of everything that is refused.
fn refused(type_url: &str, name: &str, yaml: &str) -> Vec<String> {
    let applied = apply(&mut impatient(), type_url, &[(name, yaml)]);
    assert!(applied.snapshot.is_none() || applied.rejected.is_empty());
    applied
        .rejected
        .iter()
        .map(|r| format!("{}: {}", r.path, r.message))
        .collect()
}

const EDS_CLUSTER: &str = "
name: NAME
type: EDS
lb_policy: LEAST_REQUEST
eds_cluster_config: {eds_config: {ads: {}}}
";

fn eds_cluster(name: &str) -> String {
    EDS_CLUSTER.replace("NAME", name)
}

fn endpoints(name: &str, addresses: &[&str]) -> String {
    let list: Vec<_> = addresses
        .iter()
        .map(|a| format!("{{endpoint: {{address: {{socket_address: {{address: {a}, port_value: 80}}}}}}}}"))
        .collect();
    format!(
        "cluster_name: {name}\nendpoints: [{{lb_endpoints: [{}]}}]",
        list.join(",")
    )
}

fn arc_eq<T: ?Sized>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b)
}

/// Types under short names.
use type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
