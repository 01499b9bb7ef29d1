//! Versions of Kubernetes' objects that differ in shape from what the mesh reads.

use mesh_api::istio::Kind;
use serde_json::{Map, Value, json};

/// Versions in which a kind can be read, the one that is wanted most first.
pub(super) fn versions(kind: Kind) -> Vec<&'static str> {
    let mut all = kind.info().versions.to_vec();
    // Clusters before 1.21 know no other.
    if kind == Kind::EndpointSlice {
        all.push("v1beta1");
    }
    all
}

/// Brings an object into the shape of the kind's newest version, and drops what the mesh never reads. Gives its status, where
/// that is dropped too.
pub(super) fn adapt(kind: Kind, version: &str, value: &mut Value) -> Option<Value> {
    let mut status = None;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        // Often longer than the object itself.
        metadata.remove("managedFields");
        // Another one for each write, also of a status.
        metadata.remove("resourceVersion");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    if let Value::Object(map) = &mut *value {
        // Nodes tell every minute that they live, and controllers what they think of an object.
        match kind {
            Kind::Node => {
                let version = map.get_mut("status");
                let version = version.and_then(|s| s.pointer_mut("/nodeInfo/kubeletVersion").map(Value::take));
                map.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
                if let Some(version) = version.filter(Value::is_string) {
                    map.insert("status".to_owned(), json!({"nodeInfo": {"kubeletVersion": version}}));
                }
            }
            Kind::Pod => {}
            _ => status = map.remove("status"),
        }
    }
    if kind == Kind::EndpointSlice && version == "v1beta1" {
        let endpoints = value.get_mut("endpoints").and_then(Value::as_array_mut);
        for endpoint in endpoints.into_iter().flatten().filter_map(Value::as_object_mut) {
            topology(endpoint);
        }
    }
    status
}

/// `discovery.k8s.io/v1beta1` says node and zone in a map, v1 in fields of their own.
fn topology(endpoint: &mut Map<String, Value>) {
    let Some(Value::Object(mut topology)) = endpoint.remove("topology") else {
        return;
    };
    for (key, field) in [
        ("kubernetes.io/hostname", "nodeName"),
        ("topology.kubernetes.io/zone", "zone"),
    ] {
        if let Some(value) = topology.remove(key) {
            endpoint.entry(field).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::istio::{AnyObject, parse};

    use super::*;

    #[test]
    fn slices_of_old_clusters_are_read_as_those_of_new_ones() {
        let mut old = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "shop", "managedFields": [{"manager": "x"}]},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true},
                "topology": {"kubernetes.io/hostname": "node-1", "topology.kubernetes.io/zone": "a"}}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]});
        assert_eq!(versions(Kind::EndpointSlice), ["v1", "v1beta1"]);
        adapt(Kind::EndpointSlice, "v1beta1", &mut old);
        assert!(old["metadata"].get("managedFields").is_none());
        let object = parse("discovery.k8s.io/v1", "EndpointSlice", old).expect("an object");
        let AnyObject::EndpointSlice(slice) = object else {
            panic!("{object:?}")
        };
        let endpoint = &slice.object.endpoints.as_ref().expect("endpoints")[0];
        assert_eq!(
            (endpoint.node_name.as_deref(), endpoint.zone.as_deref()),
            (Some("node-1"), Some("a"))
        );
    }

    #[test]
    fn of_a_node_only_what_stays_is_kept() {
        let mut node = json!({"metadata": {"name": "a", "labels": {"topology.kubernetes.io/zone": "z"}},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"conditions": [{"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
                "nodeInfo": {"kubeletVersion": "v1.29.1", "bootID": "x"}}});
        adapt(Kind::Node, "v1", &mut node);
        assert_eq!(node["status"], json!({"nodeInfo": {"kubeletVersion": "v1.29.1"}}));
        assert!(node.get("spec").is_none(), "{node}");
        let mut bare = json!({"metadata": {"name": "b"}, "status": {"nodeInfo": 7}});
        adapt(Kind::Node, "v1", &mut bare);
        assert!(bare.get("status").is_none(), "{bare}");
    }
}
