//! `/debug/configz` and `/debug/sourcez`: what was read.

use std::sync::Arc;

use mesh_api::istio::{AnyObject, Object, ObjectMeta};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::serve::model::Model;
use crate::source::{Severity, object_name};

/// Whoever has changed a file waits here until it is read, and then in `/debug/syncz` until `snapshot_taken` of each proxy
/// is this number or a later one.
pub(super) fn files(model: &Model) -> Value {
    // In this order: the number may be later than the files, never earlier.
    let present = model.present();
    let number = model.hub().number();
    let all = present.loaded.files.iter();
    let all: Map<String, Value> = all
        .map(|(path, sha256)| (path.display().to_string(), json!(&**sha256)))
        .collect();
    json!({"snapshot": number, "files": all})
}

/// Every object: Istio's with all that they say, Kubernetes' by their names alone.
pub(super) fn page(model: &Model) -> Value {
    let present = model.present();
    let one = |object: &Arc<AnyObject>| {
        let name = object_name(object.kind().as_str(), object.namespace(), object.name());
        let place = present.loaded.places.diagnostic(&name, "", "", Severity::Warning);
        let mut out = json!({
            "kind": object.kind().as_str(),
            "apiVersion": object.kind().api_version(),
            "namespace": object.namespace(),
            "name": object.name(),
            "file": place.file.display().to_string(),
            "line": place.line,
            "metadata": {"name": object.name(), "namespace": object.namespace()},
        });
        if let Some((meta, spec)) = said(object) {
            out["metadata"] = meta;
            out["spec"] = spec;
        }
        out
    };
    present.loaded.objects.iter().map(one).collect()
}

/// `metadata` and `spec` of Istio's kinds.
fn said(object: &AnyObject) -> Option<(Value, Value)> {
    fn of<T: Serialize>(object: &Object<T>) -> Option<(Value, Value)> {
        let meta: &ObjectMeta = &object.meta;
        Some((
            serde_json::to_value(meta).ok()?,
            serde_json::to_value(&object.spec).ok()?,
        ))
    }
    match object {
        AnyObject::VirtualService(o) => of(o),
        AnyObject::DestinationRule(o) => of(o),
        AnyObject::Gateway(o) => of(o),
        AnyObject::ServiceEntry(o) => of(o),
        AnyObject::Sidecar(o) => of(o),
        AnyObject::WorkloadEntry(o) => of(o),
        AnyObject::WorkloadGroup(o) => of(o),
        AnyObject::EnvoyFilter(o) => of(o),
        AnyObject::ProxyConfig(o) => of(o),
        AnyObject::PeerAuthentication(o) => of(o),
        AnyObject::RequestAuthentication(o) => of(o),
        AnyObject::AuthorizationPolicy(o) => of(o),
        AnyObject::Telemetry(o) => of(o),
        _ => None,
    }
}
