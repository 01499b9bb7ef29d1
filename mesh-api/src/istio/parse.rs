//! From a document to an object, with errors that name the field.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::Value;

use super::{
    AnyObject, FieldError, Kind, Object, ObjectMeta,
    error::{At, Findings, write_field},
    object::{Spec, kubernetes_object},
    shape::deserialize_all,
};

/// Reads a document: `value` is the whole of it, from `apiVersion` to `spec`.
///
/// The rules of the kind are checked too. What is only a warning does not stop the object; ask
/// [`AnyObject::warnings`] for it.
///
/// # Errors
/// Everything for which the object is refused, each with its path. What has the wrong shape is reported alone, as the
/// rules can only be checked on what could be read.
pub fn parse(api_version: &str, kind: &str, value: Value) -> Result<AnyObject, Vec<FieldError>> {
    let kind = Kind::resolve(api_version, kind).map_err(|e| {
        let path = if matches!(e, super::KindError::Version { .. }) {
            "apiVersion"
        } else {
            "kind"
        };
        vec![FieldError::error(path, e.to_string())]
    })?;
    if kind == Kind::AuthorizationPolicy {
        refuse_empty_lists(&value["spec"]["rules"])?;
    }
    let object = read(kind, value)?;
    let errors: Vec<FieldError> = object.validate().into_iter().filter(FieldError::is_error).collect();
    if errors.is_empty() { Ok(object) } else { Err(errors) }
}

/// In a policy, a list that is written and empty cannot be told from one that is left out once it is read, and means
/// the contrary to most readers: `namespaces: []` would let everybody in.
fn refuse_empty_lists(rules: &Value) -> Result<(), Vec<FieldError>> {
    fn walk(at: &At<'_>, value: &Value, f: &mut Findings) {
        match value {
            Value::Array(list) if list.is_empty() => {
                f.error(
                    at,
                    "is an empty list; leave the field out to match anything, or write values",
                );
            }
            Value::Array(list) => {
                for (i, entry) in list.iter().enumerate() {
                    walk(&at.index(i), entry, f);
                }
            }
            Value::Object(map) => {
                for (key, entry) in map {
                    walk(&at.field(key), entry, f);
                }
            }
            _ => {}
        }
    }
    let mut findings = Findings::default();
    // An empty list of rules is Istio's way to say that nothing is allowed.
    if rules.as_array().is_some_and(|list| !list.is_empty()) {
        let spec = At::root("spec");
        walk(&spec.field("rules"), rules, &mut findings);
    }
    if findings.0.is_empty() { Ok(()) } else { Err(findings.0) }
}

fn read(kind: Kind, value: Value) -> Result<AnyObject, Vec<FieldError>> {
    match kind {
        Kind::VirtualService => istio(value).map(AnyObject::VirtualService),
        Kind::DestinationRule => istio(value).map(AnyObject::DestinationRule),
        Kind::Gateway => istio(value).map(AnyObject::Gateway),
        Kind::ServiceEntry => istio(value).map(AnyObject::ServiceEntry),
        Kind::Sidecar => istio(value).map(AnyObject::Sidecar),
        Kind::WorkloadEntry => istio(value).map(AnyObject::WorkloadEntry),
        Kind::WorkloadGroup => istio(value).map(AnyObject::WorkloadGroup),
        Kind::EnvoyFilter => istio(value).map(AnyObject::EnvoyFilter),
        Kind::ProxyConfig => istio(value).map(AnyObject::ProxyConfig),
        Kind::PeerAuthentication => istio(value).map(AnyObject::PeerAuthentication),
        Kind::RequestAuthentication => istio(value).map(AnyObject::RequestAuthentication),
        Kind::AuthorizationPolicy => istio(value).map(AnyObject::AuthorizationPolicy),
        Kind::Telemetry => istio(value).map(AnyObject::Telemetry),
        _ => kubernetes_object(kind, &value),
    }
}

/// The envelope as it is written. Fields of `metadata` that the mesh does not read are known by name, so that a
/// misspelt one is found.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document<T> {
    #[allow(dead_code, reason = "known, and read by the caller")]
    api_version: IgnoredAny,
    #[allow(dead_code, reason = "known, and read by the caller")]
    kind: IgnoredAny,
    #[serde(default)]
    metadata: Metadata,
    // `spec:` with nothing after it is an empty spec.
    spec: Option<T>,
    #[serde(default)]
    #[allow(dead_code, reason = "written by controllers, not read")]
    status: IgnoredAny,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[allow(dead_code, reason = "fields that are known, and not read")]
struct Metadata {
    name: String,
    namespace: String,
    labels: Option<std::collections::BTreeMap<String, String>>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
    creation_timestamp: Option<jiff::Timestamp>,
    resource_version: String,
    generation: Option<i64>,
    uid: String,
    generate_name: IgnoredAny,
    managed_fields: IgnoredAny,
    owner_references: IgnoredAny,
    finalizers: IgnoredAny,
    deletion_timestamp: IgnoredAny,
    deletion_grace_period_seconds: IgnoredAny,
    self_link: IgnoredAny,
}

fn istio<T: Spec>(value: Value) -> Result<Object<T>, Vec<FieldError>> {
    let document: Document<T> = deserialize_all(value)?;
    let m = document.metadata;
    Ok(Object {
        meta: ObjectMeta {
            name: m.name,
            namespace: m.namespace,
            labels: m.labels.unwrap_or_default(),
            annotations: m.annotations.unwrap_or_default(),
            creation_timestamp: m.creation_timestamp,
            resource_version: m.resource_version,
            generation: m.generation,
            uid: m.uid,
        },
        spec: document.spec.unwrap_or_default(),
    })
}

/// Reads a Kubernetes object. Fields that its type does not know come back as warnings.
pub(super) fn kubernetes<T: DeserializeOwned + Serialize>(
    value: &Value,
) -> Result<(T, Vec<FieldError>), Vec<FieldError>> {
    let object: T = deserialize_all(value.clone())?;
    let mut warnings = Vec::new();
    if let Ok(known) = serde_json::to_value(&object) {
        unknown_fields(value, &known, &mut String::new(), &mut warnings);
    }
    Ok((object, warnings))
}

/// Reports what is in `written` and not in `known`, which is the same object after it was read.
fn unknown_fields(written: &Value, known: &Value, path: &mut String, out: &mut Vec<FieldError>) {
    let length = path.len();
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (key, value) in written {
                let first = path.is_empty();
                // Writing to a string does not fail.
                let _ = write_field(path, key, first);
                match known.get(key) {
                    Some(inner) => unknown_fields(value, inner, path, out),
                    None if is_empty(value) => {}
                    None => out.push(FieldError::warning(&*path, "unknown field; it has no effect")),
                }
                path.truncate(length);
            }
        }
        (Value::Array(written), Value::Array(known)) => {
            for (index, (value, inner)) in written.iter().zip(known).enumerate() {
                let _ = write!(path, "[{index}]");
                unknown_fields(value, inner, path, out);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What a type may leave out when it writes itself.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
