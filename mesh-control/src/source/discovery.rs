//! `discoverySelectors` of the MeshConfig: namespaces that the mesh reads.

use std::collections::{BTreeMap, HashSet};

use mesh_api::istio::AnyObject;
use mesh_api::mesh_config::MeshConfig;

use super::Loaded;
use crate::inject::selector;

/// Whether a namespace is read. That of the mesh's own settings always is.
#[must_use]
pub fn reads(mesh: &MeshConfig, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let selectors = &mesh.discovery_selectors;
    selectors.is_empty() || namespace == mesh.root_namespace || selectors.iter().any(|s| selector::selects(s, labels))
}

/// Leaves out what lies in namespaces that are not read, with what is said of it. Namespaces and Nodes themselves stay.
pub fn filter(loaded: &mut Loaded, mesh: &MeshConfig) {
    if mesh.discovery_selectors.is_empty() {
        return;
    }
    let read: HashSet<String> = loaded
        .objects
        .iter()
        .filter_map(|o| match o.as_ref() {
            AnyObject::Namespace(space) => {
                let none = BTreeMap::new();
                let labels = space.object.metadata.labels.as_ref().unwrap_or(&none);
                reads(mesh, o.name(), labels).then(|| o.name().to_owned())
            }
            _ => None,
        })
        .chain([mesh.root_namespace.clone()])
        .collect();
    loaded
        .objects
        .retain(|o| !o.kind().info().namespaced || read.contains(o.namespace()));
    // `KIND NAMESPACE/NAME`.
    let namespace = |object: &str| Some(object.split_once(' ')?.1.split_once('/')?.0.to_owned());
    loaded
        .diagnostics
        .retain(|d| namespace(&d.object).is_none_or(|n| read.contains(&n)));
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use mesh_api::istio::parse;
    use serde_json::json;

    use super::super::{Diagnostic, Severity};
    use super::*;

    #[test]
    fn only_selected_namespaces_are_read() {
        let object = |kind: &str, namespace: &str, name: &str, labels: serde_json::Value| {
            let mut value = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}});
            if !namespace.is_empty() {
                value["metadata"]["namespace"] = namespace.into();
            }
            Arc::new(parse("v1", kind, value).expect("an object"))
        };
        let finding = |object: &str| Diagnostic {
            file: PathBuf::new(),
            line: 0,
            object: object.to_owned(),
            field: String::new(),
            message: "bad".to_owned(),
            severity: Severity::Error,
        };
        let all = Loaded {
            objects: vec![
                object("Namespace", "", "shop", json!({"env": "prod"})),
                object("Namespace", "", "play", json!({})),
                object("Service", "shop", "web", json!({})),
                object("Service", "play", "web", json!({})),
                object("Service", "istio-system", "istiod", json!({})),
            ],
            diagnostics: vec![
                finding("Service shop/web"),
                finding("Service play/web"),
                finding("Namespace play"),
            ],
            ..Loaded::default()
        };
        let kept = |selectors: &str| {
            let mesh = MeshConfig::from_yaml(&format!("discoverySelectors: {selectors}")).expect("settings");
            let mut loaded = all.clone();
            filter(&mut loaded, &mesh);
            let names: Vec<String> = loaded
                .objects
                .iter()
                .map(|o| format!("{}/{}", o.namespace(), o.name()))
                .collect();
            (names, loaded.diagnostics.len())
        };
        let selected = ["/shop", "/play", "shop/web", "istio-system/istiod"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(kept("[{matchLabels: {env: prod}}]"), (selected, 2));
        assert_eq!(kept("[]").0.len(), 5);
        assert_eq!(kept("[{}]").0.len(), 5, "an empty selector selects everything");
    }
}
