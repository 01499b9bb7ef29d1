//! The template `gateway`: the Pod's own container `istio-proxy` becomes a gateway's.

use serde_json::{Map, Value, json};

use super::template::Facts;
use super::{annotation, container, volumes};

/// The fields that are laid over the Pod.
///
/// # Errors
/// When an annotation cannot be used.
pub(super) fn template(facts: &Facts<'_>) -> Result<Value, String> {
    let mut annotations = Map::new();
    annotations.insert(annotation::REVISION.to_owned(), json!(facts.revision()));
    if let [only] = facts.app_containers().as_slice() {
        annotations.insert(annotation::DEFAULT_LOGS_CONTAINER.to_owned(), json!(only));
        annotations.insert(annotation::DEFAULT_CONTAINER.to_owned(), json!(only));
    }
    let mut proxy = container::proxy(facts, "router");
    let mut spec = Map::new();
    proxy.insert(
        "volumeMounts".to_owned(),
        volumes::mounts(facts, volumes::Role::Gateway)?,
    );
    spec.insert("volumes".to_owned(), volumes::volumes(facts, volumes::Role::Gateway)?);
    spec.insert("containers".to_owned(), json!([proxy]));
    container::add_pull_secrets(facts, &mut spec);
    Ok(json!({
        "metadata": {"labels": facts.canonical_labels(), "annotations": annotations},
        "spec": spec,
    }))
}
